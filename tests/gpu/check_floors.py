"""What a GPU is held to, from the lines of bench_gpu. A floor that was not measured says so; none fails a test."""


def find(cases, **wanted):
    """The last one: cases of decode are told after their first round, and once more after all."""
    return next((case for case in reversed(cases) if all(case.get(key) == value for key, value in wanted.items())), {})


def floors(cases) -> list:
    rows = []

    def row(name, value, floor, aim, at_most=False, note=""):
        met = None if value is None else (value <= floor if at_most else value >= floor)
        rows.append({"what": name, "value": value, "floor": floor, "aim": aim, "at_most": at_most, "met": met, "note": note})

    def of_copy(**wanted):
        case = find(cases, case="decode", **wanted)
        for key in ("extrapolated_of_copy_bandwidth", "of_copy_bandwidth"):  # the whole base, else the layers that were loaded
            if case.get(key) is not None:
                return case[key], key
        return None, ""

    measured = [case["weights"] for case in cases if case.get("case") == "load"]
    for weights in measured:
        value, note = of_copy(weights=weights, batch=1, adapters=0)
        row(f"{weights}: bytes of a step at B = 1 per second / copy bandwidth", value, 0.88, 0.93, note=note)
    for weights in measured:
        value, note = of_copy(weights=weights, batch=16, adapters=16, ranks=[16])
        row(f"{weights}: B = 16 with sixteen rank-16 adapters / its byte limit", 1 / value if value else None, 1.15, 1.05, True, note)
    for weights in measured:
        case = find(cases, case="decode", weights=weights, batch=16, adapters=16, ranks=[16])
        row(f"{weights}: rate with sixteen rank-16 adapters / without", case.get("rate_to_base"), 0.93, 0.97)
    for case in (case for case in cases if case.get("case") == "prefill"):
        row(f"{case['weights']}: {case['prefill']} prefill of {case['tokens']} / the vendor's products", case.get("of_library"), 0.70, 0.80,
            note=case.get("why", ""))
    for case in (case for case in cases if case.get("case") == "upload"):
        row(f"upload of rank {case['rank']} / link", case.get("of_link"), 0.80, 0.90)
    for case in (case for case in cases if case.get("case") == "idle"):
        row(f"idle between steps at B = {case['batch']}", case.get("idle_share"), 0.03, 0.01, True, case.get("why", ""))
    return rows


def show(result):
    for row in [] if result["emulated"] else result.get("floors", []):  # an emulation's figures mean nothing
        value = "not measured" if row["value"] is None else f"{row['value']:.3f}"
        sign = "<=" if row["at_most"] else ">="
        verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
        print(f"  {row['what']}: {value} (floor {sign} {row['floor']}, aim {row['aim']}) {verdict}")
    for failure in result["failures"][:20]:
        print(f"  FAILED {failure['part']}: {failure['what']}: {failure['error'].strip().splitlines()[0] if failure['error'].strip() else ''}")

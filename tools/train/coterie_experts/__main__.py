import sys

from coterie_experts.commands import main

sys.exit(main())

"""Print the versions installed here as constraints, for `make constraints`."""

from __future__ import annotations

import sys
from importlib.metadata import distributions

# Builds of torch for a GPU bring these along, in versions of their own.
PLATFORM_PREFIXES = ("cuda-", "nvidia-")
# Has builds for every Python that we support; without a version, pip takes gigabytes for CUDA.
ON_EVERY_PYTHON = {"torch"}
NOT_TESTED_WITH = {"pip", "rerank_plugins", "setuptools", "wheel"}

python = ".".join(map(str, sys.version_info[:2]))
found = {
    distribution.metadata["Name"]: distribution.version.partition("+")[0]
    for distribution in distributions()
}
print(
    f"# Tested versions (Python {python}, {sys.platform}); `make demo` and `make test` install\n"
    "# with them. An older Python takes what pip finds for it. Regenerate: make constraints"
)
for name in sorted(found, key=str.lower):
    if name not in NOT_TESTED_WITH and not name.startswith(PLATFORM_PREFIXES):
        marker = "" if name in ON_EVERY_PYTHON else f" ; python_version >= '{python}'"
        print(f"{name}=={found[name]}{marker}")

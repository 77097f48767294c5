"""Makes the Python code of the protocol from the .proto files into `generated/` (or the folder given).

Needs `grpcio-tools`. The result is not committed: run this again when the protocol changes.
"""

import pathlib
import sys

from grpc_tools import protoc
import grpc_tools

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parents[3] / "proto"


def generate(out: pathlib.Path) -> None:
    """Writes the modules of every .proto file under `out`."""
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("campanile/**/*.proto"))
    if not files:
        sys.exit(f"no .proto files under {PROTO}; run this inside the repository")
    out.mkdir(parents=True, exist_ok=True)
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(arguments + files) != 0:
        sys.exit("protoc refused the files; see above")


if __name__ == "__main__":
    generate(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "generated")

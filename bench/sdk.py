"""Time the Supervisely SDK, in a Python that has it: sdk.py write TAR FOLDER ROUNDS, or sdk.py read PKL FOLDER ROUNDS.

Prints the seconds of each round as a JSON list.
"""

import json
import sys
import time

from supervisely.api.image_api import BlobImageInfo
from supervisely.io.fs import save_blob_offsets_pkl


def main() -> None:
    """Run the rounds, after one that is not counted: it compiles and fills caches."""
    what, path, folder, rounds = sys.argv[1:]
    seconds = []
    for _ in range(int(rounds) + 1):
        began = time.perf_counter()
        if what == "write":
            save_blob_offsets_pkl(path, folder, replace=True)
        else:
            for _ in BlobImageInfo.load_from_pickle_generator(path):
                pass
        seconds.append(time.perf_counter() - began)
    print(json.dumps(seconds[1:]))


main()

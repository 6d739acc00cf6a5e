"""The same with a Pool of 8 and one task for each."""

import multiprocessing
import os

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(8) as pool:
        print("hello from", *pool.starmap(os.getpid, [()] * 8, chunksize=1))

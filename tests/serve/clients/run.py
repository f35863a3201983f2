"""The server as its users' clients see it: `python run.py PROGRAM MODEL` starts `mlx_lm server` and runs the tests here
with the packages of requirements.txt."""

import os
import pathlib
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).parent


def main():
    program, model = sys.argv[1:3]
    server = subprocess.Popen([program, "server", "--model", model, "--port", "0", "--api-key", "secret"],
                              stderr=subprocess.PIPE, text=True)
    try:
        started = server.stderr.readline()  # mlx_lm server: NAME at http://127.0.0.1:PORT
        os.environ["SERVER"] = started.rsplit(" ", 1)[-1].strip()
        os.environ["MODEL"] = started.split(": ", 1)[1].split(" at ")[0]
        log = open(os.devnull, "w")
        import threading
        threading.Thread(target=lambda: [log.write(line) for line in server.stderr], daemon=True).start()
        tests = unittest.defaultTestLoader.discover(str(HERE), pattern="*_test.py")
        result = unittest.TextTestRunner(verbosity=1).run(tests)
        assert result.testsRun > 0
        return 0 if result.wasSuccessful() else 1
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())

"""The server as its users' clients see it: `python run.py PROGRAM` starts `mlx_lm server` with the default model and runs
the tests here, with the packages of requirements.txt."""

import os
import pathlib
import subprocess
import sys
import threading
import unittest


def main():
    server = subprocess.Popen([sys.argv[1], "server", "--port", "0", "--api-key", "secret"], stderr=subprocess.PIPE,
                              text=True)
    try:
        log = [server.stderr.readline()]  # mlx_lm server: NAME at http://127.0.0.1:PORT
        name, _, address = log[0].strip().partition(": ")[2].rpartition(" at ")
        if not address:
            sys.exit("".join(log) + server.stderr.read())
        os.environ["SERVER"], os.environ["MODEL"] = address, name
        reader = threading.Thread(target=lambda: log.extend(server.stderr), daemon=True)
        reader.start()
        tests = unittest.defaultTestLoader.discover(str(pathlib.Path(__file__).parent), pattern="*_test.py")
        result = unittest.TextTestRunner().run(tests)
        if not (result.testsRun > 0 and result.wasSuccessful()):
            reader.join(1)
            sys.exit("The server's log:\n" + "".join(log))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

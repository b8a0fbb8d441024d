# The program given to `python -c`: it reads one line of JSON from its standard input, a stream socket to the
# supervisor, and runs the zygote whose source is in it. Nothing is written to disk and nothing has to be
# installed beside the binary; the loader keeps the sources, so that tracebacks show their lines.
import gc, importlib.abc, importlib.util, json, os, socket, sys

# What is imported stays, so looking for garbage again and again meanwhile finds little.
thresholds = gc.get_threshold()
gc.set_threshold(0)

channel = socket.socket(fileno=0)
line = bytearray()
while not line.endswith(b"\n"):
    chunk = channel.recv(65536)
    if not chunk:
        sys.exit(0)
    line += chunk
boot = json.loads(line)
# What was said to this process of its memory is not meant for what tasks start.
name, value = boot["tunables"]
if os.environ.get(name) == value:
    del os.environ[name]


class Embedded(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name in boot["modules"] else None

    def is_package(self, name):
        return name == "fairstalk_runner"

    def get_source(self, name):
        return boot["modules"][name]


sys.meta_path.insert(0, Embedded())
sys.argv = ["fairstalk"]
from fairstalk_runner import zygote

zygote.main(boot, channel, thresholds)

"""The other end of the native journal protocol: what journald would store."""
import array
import os
import shutil
import socket
import struct
import tempfile
import threading

from .waiting import PATIENCE, eventually


def decode(data):
    """Fields of one record (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/)."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            (length,) = struct.unpack_from("<Q", rest)
            value, end, data = rest[8 : 8 + length], rest[8 + length : 9 + length], rest[9 + length :]
            assert end == b"\n", "a field must end with a line break"
        name = name.decode("ascii")
        assert name.isupper() and name.replace("_", "").isalnum() and name[0] != "_", f"journald drops {name}"
        fields[name] = value.decode()
    return fields


class Journal:
    """A datagram socket as journald listens on, and every record that was sent to it."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="fairstalk-journal-")
        self.path = os.path.join(self.directory, "socket")
        self.records = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(self.path)
        self._thread = threading.Thread(target=self._listen, name="journal", daemon=True)
        self._thread.start()

    def _listen(self):
        while True:
            data, ancillary, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            if data == b"stop":
                return
            for _, _, payload in ancillary:
                (descriptor,) = array.array("i", payload)
                with open(descriptor, "rb") as memory:
                    memory.seek(0)
                    data = memory.read()
            if data:
                self.records.append(decode(data))

    def of(self, task_id):
        """Records of one task, as `journalctl TASK_ID=…` shows them."""
        return [record for record in list(self.records) if record.get("TASK_ID") == task_id]

    def story(self, task_id, outcome, timeout=PATIENCE):
        """Records of one task, as soon as this outcome is among them."""

        def told():
            records = self.of(task_id)
            return records if any(record.get("OUTCOME") == outcome for record in records) else None

        return eventually(told, timeout, lambda: f"{outcome} of {task_id} in {self.of(task_id)}")

    def close(self):
        """Stop listening."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"stop", self.path)
        self._thread.join(PATIENCE)
        self._socket.close()
        shutil.rmtree(self.directory, ignore_errors=True)

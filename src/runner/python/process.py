"""What a process says of itself: its title in `ps` and `systemctl status`."""


def set_title(title):
    """Overwrite the command line the kernel shows, and the short name.

    The zygote's real command line is the source of its bootstrap, which helps nobody. The area is our own
    memory between `arg_start` and `arg_end` of /proc/self/stat (proc(5), fields 48 and 49); a title longer
    than it is cut. Purely cosmetic: whatever fails here is ignored.
    """
    try:
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        text = title.encode()[: end - start - 1]
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(text.ljust(end - start, b"\0"))
        with open("/proc/self/comm", "w") as comm:
            comm.write(title.replace("fairstalk: ", "fs-")[:15])
    except (OSError, IndexError, ValueError):
        pass

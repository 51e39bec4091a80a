"""The box's disk: Debian's kernel, BlueZ and busybox, unpacked (never installed) into one initial RAM disk.

The packages are those of the machine's own apt index; the image is made once per set of versions and kept in the user's
cache. `python -m tests.bluez_box.image` makes it ahead of the tests.
"""

import fcntl
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# The release's own kernel (6.1.176). Its security update 6.1.0-56 (6.1.192-2) has a bug of its own: when bluetoothd dies, its
# sockets are closed, and now and then the kernel stops in hci_chan_del ("list_del corruption") and with it all of Bluetooth.
KERNEL = "linux-image-6.1.0-50-amd64"
KERNEL_OTHERWISE = "linux-image-amd64"  # Debian's pointer to its newest
PACKAGES = ("bluez", "busybox-static")
TOOLS = ("apt-get", "apt-cache", "dpkg", "ldd", "modprobe", "depmod", "cpio", "dbus-daemon", "socat")
MODULES = (
    "virtio_pci virtio_net virtio_console hci_uart bluetooth cmac ecb ccm aes_generic aesni_intel hmac sha256_generic"
    " sha512_generic ctr seqiv drbg jitterentropy_rng ecdh_generic algif_hash algif_skcipher af_alg"
)
FOLDERS = "bin sbin usr/bin etc/bluetooth run/dbus var/lib/bluetooth tmp proc sys dev"

# What the kernel starts. drbg and what it needs come before hci_uart brings ecdh_generic, whose self-test else fails and with
# it Secure Connections. It is ready when port 5555 (15B3) is listened to. Then the console is a shell.
INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
export PATH=/usr/bin:/bin:/sbin
for m in virtio_pci virtio_net virtio_console hmac sha512_generic sha256_generic ctr drbg hci_uart; do $B modprobe $m; done
$B ifconfig lo 127.0.0.1 up
$B ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
dbus-daemon --config-file=/etc/dbus.conf --nofork --nopidfile --nosyslog &
while [ ! -S /run/dbus/system_bus_socket ]; do $B usleep 50000; done
bluetoothd -n & BLUETOOTHD=$!
socat TCP-LISTEN:5555,fork,reuseaddr,nodelay UNIX-CONNECT:/run/dbus/system_bus_socket &
btattach -B /dev/hvc0 -P h4 -N &
until $B grep -q :15B3 /proc/net/tcp; do $B usleep 20000; done
echo BOX ready
while read -r line; do eval "$line"; done
$B poweroff -f
"""
_BLUETOOTH = """[General]
ControllerMode=le
[GATT]
Cache=no
[Policy]
AutoEnable=true
"""
_DBUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""
_FILES = {
    "init": INIT,
    "etc/bluetooth/main.conf": _BLUETOOTH,
    "etc/dbus.conf": _DBUS,
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\n",
    "etc/group": "root:x:0:\n",
}


class NoBox(Exception):
    """What this machine lacks for a box; the text says what to install."""


class Image(NamedTuple):
    """What QEMU boots."""

    kernel: Path
    initrd: Path


def image() -> Image:
    """Return the image of the versions in the machine's package index, made now if it is not in the cache.

    Raises:
        NoBox: a tool is not installed, the index names no kernel, or a package cannot be downloaded.
    """
    absent = [tool for tool in TOOLS if shutil.which(tool, path=_path()) is None]
    if absent:
        raise NoBox(f"{', '.join(absent)} (Debian: apt install kmod cpio socat dbus-daemon)")
    names = [_kernel(), *PACKAGES]
    versions = _said("apt-get", "download", "--print-uris", *names)
    key = hashlib.sha256((versions + Path(__file__).read_text("utf-8")).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "manway" / "bluez-box"
    folder.mkdir(parents=True, exist_ok=True)
    made = Image(folder / f"{key}.vmlinuz", folder / f"{key}.initrd.gz")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two sessions at once make it once
        if not made.initrd.exists():
            for old in (*folder.glob("*.vmlinuz"), *folder.glob("*.initrd.gz")):
                old.unlink()
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _make(Path(scratch), names, made)
    return made


def _kernel() -> str:
    known = _said("apt-cache", "search", "--names-only", f"^{KERNEL}$")
    if known.strip():
        return KERNEL
    found = re.search(r"Depends: (linux-image-\S+-amd64)\s", _said("apt-cache", "depends", KERNEL_OTHERWISE))
    if found is None:
        raise NoBox(f"a package index that knows {KERNEL_OTHERWISE} (Debian: apt-get update)")
    return found[1]


def _make(scratch: Path, names: list[str], made: Image) -> None:
    for name in names:
        _said("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name, cwd=scratch)
    unpacked, root = scratch / "unpacked", scratch / "root"
    for package in scratch.glob("*.deb"):
        _said("dpkg", "-x", str(package), str(unpacked))
    kernel = next((unpacked / "boot").glob("vmlinuz-*"))
    _lay_out(root, unpacked)
    _take_modules(root, unpacked, kernel.name.removeprefix("vmlinuz-"))
    listing = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=root, input=listing.encode(), capture_output=True, check=True
    )
    shutil.copy(kernel, made.kernel)
    half = scratch / "initrd.gz"
    half.write_bytes(gzip.compress(packed.stdout, 1))
    half.rename(made.initrd)  # last and whole: its presence says that the image is made


def _lay_out(root: Path, unpacked: Path) -> None:
    for name in FOLDERS.split():
        (root / name).mkdir(parents=True)
    for name, text in _FILES.items():
        (root / name).write_text(text)
    (root / "init").chmod(0o755)
    busybox = next(path for path in (unpacked / "bin/busybox", unpacked / "usr/bin/busybox") if path.exists())
    shutil.copy(busybox, root / "bin/busybox")
    for link in ("bin/sh", "sbin/modprobe"):
        (root / link).symlink_to("/bin/busybox")
    programs = [
        _program("dbus-daemon"),
        _program("socat"),
        next(unpacked.rglob("bluetooth/bluetoothd")),
        unpacked / "usr/bin/btattach",
    ]
    for program in programs:
        shutil.copy(program, root / "usr/bin" / program.name)
    for library in _libraries(programs):
        target = root / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)  # the file behind the link, under the link's name: that is the one it is asked for by


def _libraries(programs: Iterable[Path]) -> set[Path]:
    said = _said("ldd", *map(str, programs))
    absent = sorted(set(re.findall(r"^\s*(\S+) => not found", said, re.MULTILINE)))
    if absent:
        raise NoBox(f"{', '.join(absent)} (Debian: apt install libasound2 libdw1 libglib2.0-0)")
    return {Path(path) for path in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", said, re.MULTILINE)}


def _take_modules(root: Path, unpacked: Path, version: str) -> None:
    source = unpacked / "lib/modules" / version
    if not source.exists():  # newer Debian keeps them below /usr
        shutil.move(unpacked / "usr/lib/modules", unpacked / "lib/modules")
    _said("depmod", "-b", str(unpacked), version)
    wanted: set[Path] = set()
    for module in MODULES.split():
        said = _said("modprobe", "-d", str(unpacked), "-S", version, "--show-depends", module)
        wanted.update(Path(path) for path in re.findall(r"^insmod (\S+)", said, re.MULTILINE))
    for path in sorted(wanted):
        target = root / "lib/modules" / version / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(source / name, root / "lib/modules" / version / name)
    _said("depmod", "-b", str(root), version)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where Debian keeps modprobe


def _program(name: str) -> Path:
    found = shutil.which(name, path=_path())
    if found is None:
        raise NoBox(name)
    return Path(found)


def _said(*command: str, cwd: Path | None = None) -> str:
    """Run a tool of the machine and return what it printed.

    Raises:
        NoBox: it failed; with its last words.
    """
    environment = os.environ | {"PATH": _path(), "LC_ALL": "C"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoBox(f"`{' '.join(command)}`: {done.stderr.strip()[-400:]}")
    return done.stdout


if __name__ == "__main__":
    print(image().initrd)  # noqa: T201  a tool for people

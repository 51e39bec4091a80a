"""BlueZ in a box: a virtual machine with Debian's kernel, bluetoothd and D-Bus; no Bluetooth hardware, no root.

HCI goes in over a virtio console from a server on loopback (the virtual air), D-Bus comes out over TCP. The machine's console
is a shell, so a test can do to BlueZ what befalls it in the field: kill bluetoothd and start it again.
"""

import asyncio
import os
import re
import shutil
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.bluez_box.image import Image, NoBox, image
from tests.kit.brokers import free_port

EMULATOR = "qemu-system-x86_64"
TIED = ("setpriv", "--pdeathsig", "KILL")  # it ends with us, however we end
KVM = ("-accel", "kvm")
EMULATED = ("-accel", "tcg,thread=multi,tb-size=256")
KVM_WITHIN_S = 10.0  # a nested guest's KVM may open and then abort or hang
READY_WITHIN_S = 90.0  # 8 to 20 s emulated on an idle two-core machine (choice: the rest of the suite may run beside it)
COMMAND_WITHIN_S = 20.0

_MACHINE = "-cpu max -smp 1 -m 384 -M q35 -nodefaults -no-user-config -display none -serial stdio -no-reboot"
_KERNEL = (
    "console=ttyS0 loglevel=4 panic=-1 mitigations=off nokaslr random.trust_cpu=on tsc=reliable audit=0 apparmor=0 nowatchdog"
)
_DEVICES = (
    "-netdev user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{dbus}-:5555 -device virtio-net-pci,netdev=n0,romfile="
    " -device virtio-serial-pci -chardev socket,id=bt,host=127.0.0.1,port={hci},server=off -device virtconsole,chardev=bt"
)


class Box:
    """One running machine; `dbus` is the address of its system bus, for DBUS_SYSTEM_BUS_ADDRESS."""

    def __init__(self, process: asyncio.subprocess.Process, dbus: str, accelerator: str) -> None:
        self.dbus, self.accelerator = dbus, accelerator
        self.console: deque[str] = deque(maxlen=400)
        self.boot_s = 0.0
        self._process = process
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self._turn = asyncio.Lock()  # a test and the gateway's ladder may want the one shell at the same time
        self._asked = 0
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def run(self, command: str) -> None:
        """Run a line of shell inside the machine and return at its end.

        Raises:
            AssertionError: it failed, or the machine ended; with the console's last lines.
            TimeoutError: it did not end in time.
        """
        assert self._process.stdin is not None
        async with self._turn:
            self._asked += 1  # the answer of a command whose caller was cancelled is nobody else's
            # In quotes, or the console's echo of the command would be taken for the answer.
            self._process.stdin.write(f"{command}; echo BOX 'answers' {self._asked} $?\n".encode())
            async with asyncio.timeout(COMMAND_WITHIN_S):
                said = await self._until(f"BOX answers {self._asked} ")
        assert said.endswith(" 0"), "\n".join(self.console)

    async def kill_bluetoothd(self) -> None:
        """End the Bluetooth service as a crash would; returns when it has gone."""
        await self.run("kill -9 $BLUETOOTHD; wait $BLUETOOTHD; true")

    async def start_bluetoothd(self) -> None:
        """Start the Bluetooth service."""
        await self.run("bluetoothd -n & BLUETOOTHD=$!")

    async def restart_bluetoothd(self) -> None:
        """Do what a service manager would, whether it still runs or not."""
        await self.kill_bluetoothd()
        await self.start_bluetoothd()

    def processor_s(self) -> float:
        """Return the processor time the machine has taken from its host so far, in seconds."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def ready(self, within_s: float) -> None:
        """Return when BlueZ's processes have been started; D-Bus must not be connected to before.

        Raises:
            NoBox: the machine ended, with its console's last lines.
            TimeoutError: not in time.
        """
        started = asyncio.get_running_loop().time()
        async with asyncio.timeout(within_s):
            if not (await self._until("BOX ready")).endswith("BOX ready"):
                raise NoBox("a virtual machine that starts:\n" + "\n".join(list(self.console)[-8:]))
        self.boot_s = asyncio.get_running_loop().time() - started

    async def end(self) -> None:
        """End the machine and wait for it."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _until(self, words: str) -> str:
        while words not in (line := await self._lines.get()) and line:
            pass
        return line

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            text = re.sub(r"[\x00-\x1f]+", " ", line.decode(errors="replace")).strip()
            self.console.append(text)
            if text:
                self._lines.put_nowait(text)
        self._lines.put_nowait("")  # nothing more will come


@asynccontextmanager
async def running_box(hci_port: int) -> AsyncIterator[Box]:
    """Give a booted machine whose adapter is the HCI server on loopback's `hci_port`.

    Raises:
        NoBox: this machine has not what it takes.
    """
    if shutil.which(EMULATOR) is None:
        raise NoBox(f"{EMULATOR} (Debian: apt install qemu-system-x86)")
    disk = await asyncio.to_thread(image)
    box = None
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        box = await _started(disk, KVM, hci_port, KVM_WITHIN_S)
    if box is None:
        box = await _started(disk, EMULATED, hci_port, READY_WITHIN_S)
    if box is None:
        raise NoBox(f"a machine fast enough to boot within {READY_WITHIN_S:.0f} s")
    try:
        yield box
    finally:
        await box.end()


async def _started(disk: Image, accelerator: Sequence[str], hci_port: int, within_s: float) -> Box | None:
    """Return a machine that is ready, or None where this accelerator does not bring it so far in time."""
    dbus = free_port()
    process = await asyncio.create_subprocess_exec(
        *TIED, EMULATOR, *accelerator, *_MACHINE.split(), "-kernel", str(disk.kernel), "-initrd", str(disk.initrd),
        "-append", _KERNEL, *_DEVICES.format(dbus=dbus, hci=hci_port).split(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    box = Box(process, f"tcp:host=127.0.0.1,port={dbus}", accelerator[1].split(",")[0])
    try:
        await box.ready(within_s)
    except (NoBox, TimeoutError):
        await box.end()
        if accelerator is EMULATED:
            raise
        return None
    except BaseException:
        await box.end()
        raise
    return box

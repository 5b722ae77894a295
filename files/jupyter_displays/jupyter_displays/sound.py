"""The sound of a display: what programs play, for who listens.

Programs find a socket of PulseAudio in the display's directory. The server behind it has no hardware, starts when the
first of them knocks and ends when none is left, so that a display without sound costs nothing. What it mixes is
recorded only while somebody listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import shutil
import signal
import socket
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .processes import Process

RATE = 48000
CHANNELS = 2
# A packet has 20 ms, in samples of each channel and in bytes of all.
FRAME = RATE // 50
_FRAME_BYTES = FRAME * CHANNELS * 2
_SILENCE = bytes(_FRAME_BYTES)
# So many packets of silence are sent, so that what was played fades away; then there is nothing to say.
_FADES = 10
_BITS_PER_SECOND = 64_000
_LARGEST_PACKET = 1500
_OPUS_AUDIO, _OPUS_BITRATE, _OPUS_COMPLEXITY = 2049, 4002, 4010

_SETTINGS = f"""\
daemonize = no
use-pid-file = no
load-default-script-file = no
# What programs change of it would stay until the display ends.
allow-module-loading = no
# Seconds after the last program has gone.
exit-idle-time = 30
# Nothing that is shared through the system; samples come by the socket.
enable-shm = no
high-priority = no
realtime-scheduling = no
flat-volumes = no
default-sample-rate = {RATE}
log-target = stderr
"""


class Listener(Protocol):
    """Who listens to a display."""

    def on_packet(self, packet: bytes) -> None:
        """Take a packet of Opus."""

    def on_closed(self, reason: str) -> None:
        """Learn that there is no more to hear."""


@functools.cache
def _opus() -> ctypes.CDLL | None:
    try:
        opus = ctypes.CDLL("libopus.so.0")
    except OSError:
        return None
    opus.opus_encode.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int32]
    return opus


def installed() -> bool:
    """Return whether what makes sound is there."""
    return bool(shutil.which("pulseaudio") and _opus())


class _Encoder:
    """Opus, as the library of the system makes it."""

    def __init__(self) -> None:
        opus = _opus()
        assert opus is not None  # noqa: S101
        self._encode = opus.opus_encode
        self._state = ctypes.create_string_buffer(opus.opus_encoder_get_size(CHANNELS))
        self._packet = ctypes.create_string_buffer(_LARGEST_PACKET)
        opus.opus_encoder_init(self._state, RATE, CHANNELS, _OPUS_AUDIO)
        opus.opus_encoder_ctl(self._state, _OPUS_BITRATE, _BITS_PER_SECOND)
        # Half of what is possible, which nobody hears, in a quarter of the time.
        opus.opus_encoder_ctl(self._state, _OPUS_COMPLEXITY, 5)

    def encode(self, frame: bytes) -> bytes:
        """Return the packet of a frame."""
        size = self._encode(self._state, frame, FRAME, self._packet, _LARGEST_PACKET)
        return ctypes.string_at(self._packet, max(0, size))


class Sound:
    """The sound of one display. Where its directory can be entered, so can be listened: by its owner alone."""

    def __init__(self, directory: Path, start: Callable[[Sound, socket.socket], None]) -> None:
        """Be told how to start `process`, which is what `command` says with a socket as its standard input."""
        self._directory = directory
        self._start = start
        self._socket: socket.socket | None = None
        self._listeners: set[Listener] = set()
        self._recording: asyncio.Task[None] | None = None
        self._closed = False
        self.process: Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What programs of the display have to know."""
        return {
            "PULSE_SERVER": f"unix:{self._directory / 'pulse'}",
            # Who has the same user id is let in; but the library makes a file for one.
            "PULSE_COOKIE": str(self._directory / "pulse-cookie"),
        }

    @property
    def server_environment(self) -> dict[str, str]:
        """What the sound server has to know in addition to the display's own."""
        return {
            "PULSE_CONFIG": str(self._directory / "pulse.conf"),
            "PULSE_RUNTIME_PATH": str(self._directory / "pulse-run"),
            "PULSE_STATE_PATH": str(self._directory / "pulse-run"),
            # Nobody else shall find it, or be found.
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self._directory}/none",
            "LISTEN_FDS": "1",
        }

    def command(self) -> list[str]:
        """Return how to start the sound server, which takes over the socket as systemd hands one over."""
        (self._directory / "pulse.conf").write_text(_SETTINGS, encoding="utf-8")
        form = f"rate={RATE} channels={CHANNELS} format=s16le"
        monitor = f"playback=0 record=1 source=display.monitor {form}"
        modules = [
            # It plays 50 ms at once, and not what a program would like to have behind it.
            f"module-null-sink sink_name=display sink_properties=device.description=Display norewinds=1 {form}",
            "module-suspend-on-idle timeout=2",
            f"module-native-protocol-unix socket={self._directory}/pulse auth-cookie-enabled=0",
            f"module-simple-protocol-unix socket={self._directory}/pcm {monitor}",
        ]
        take_over = 'export LISTEN_PID=$$; exec "$@" 3<&0 0</dev/null'
        return ["sh", "-c", take_over, "sh", "pulseaudio", "-n", *(f"--load={module}" for module in modules)]

    # -- the server

    def open(self, process: Process | None = None) -> None:
        """Wait for a program, or for the end of a server that an earlier one of ours has started."""
        if process and process.alive:
            self.process = process
            process.when_ended(self._ended)
            return
        path = self._directory / "pulse"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            path.unlink(missing_ok=True)
            listening.bind(str(path))
            path.chmod(0o600)
            listening.listen()
        except OSError:
            # The disk is full, say: a display is worth something without sound.
            listening.close()
        else:
            self._socket = listening
            asyncio.get_running_loop().add_reader(listening, self._wanted)

    def close(self) -> list[Process]:
        """Let go of everything; return the server, if it runs, which has to end with the display's other programs."""
        self._closed = True
        self._let_go()
        self._stop_recording()
        return [self.process] if self.process else []

    def _let_go(self) -> None:
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _wanted(self) -> None:
        """Start the server: a program has knocked, and waits."""
        assert self._socket is not None  # noqa: S101
        (self._directory / "pcm").unlink(missing_ok=True)
        try:
            self._start(self, self._socket)
        except OSError as error:
            self._close_listeners(f"The sound server did not start: {error.strerror}.")
        if self.process:
            self.process.when_ended(self._ended)
            self._record()
        # Who knocks where nobody can answer is refused.
        self._let_go()

    def _ended(self, process: Process) -> None:
        if self._closed:
            return
        code = process.exit_code
        process.close()
        self.process = None
        # Whoever knocked in the meantime is refused: a server that cannot start is not started indefinitely.
        self.open()
        if code:
            how = f"ended with exit code {code}"
            with contextlib.suppress(ValueError):
                how = f"was killed by {signal.Signals(-code).name}"
            self._close_listeners(f"The sound server {how}.")

    # -- who listens

    def add_listener(self, listener: Listener) -> None:
        """Let somebody hear what is played from now on."""
        self._listeners.add(listener)
        self._record()

    def remove_listener(self, listener: Listener) -> None:
        """Let somebody hear no more."""
        self._listeners.discard(listener)
        if not self._listeners:
            self._stop_recording()

    def _close_listeners(self, reason: str) -> None:
        listeners, self._listeners = self._listeners, set()
        for listener in listeners:
            listener.on_closed(reason)

    def _record(self) -> None:
        """Begin to record, if there is what to record, and who listens."""
        if self._listeners and self.process and (self._recording is None or self._recording.done()):
            self._recording = asyncio.ensure_future(self._pass_on(self.process))

    def _stop_recording(self) -> None:
        if self._recording:
            self._recording.cancel()
            self._recording = None

    async def _pass_on(self, process: Process) -> None:
        """Send what is mixed to all who listen, until the server ends or nobody listens."""
        encoder = _Encoder()
        while process.alive:
            # It may still be starting.
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                reader, writer = await asyncio.open_unix_connection(self._directory / "pcm")
                with contextlib.closing(writer):
                    await self._encode(reader, encoder)
            await asyncio.sleep(0.01)

    async def _encode(self, reader: asyncio.StreamReader, encoder: _Encoder) -> None:
        silent = _FADES
        while True:
            frame = await reader.readexactly(_FRAME_BYTES)
            silent = silent + 1 if frame == _SILENCE else 0
            if silent <= _FADES:
                packet = encoder.encode(frame)
                for listener in list(self._listeners):
                    listener.on_packet(packet)

"""The control panel of the package `osdp` 1.6 (PyPI, another author), told what to do by lines on standard input.

Runs in an environment of its own, because it and libosdp both install a module named `osdp`.  Every answer and every
event is one line of JSON.  Arguments: the line, the address, the key in hexadecimal or `-` for a plain dialogue.
"""

import json
import os
import sys
import threading
import time
from typing import Any

import osdp

CALL_LIMIT_S = 20.0
LOCK = threading.Lock()


def say(**said: Any) -> None:
    with LOCK:
        print(json.dumps(said), flush=True)


class Panel(osdp.ControlPanel):
    """Tells what readers say."""

    def on_raw_card_data_reply_received(self, address: int, data: Any) -> None:
        say(event="card", address=address, bits=data.bit_count, data=bytes(data.data).hex())

    def on_keypad_data_reply_received(self, address: int, data: Any) -> None:
        say(event="keys", address=address, data=bytes(data.data).hex())

    def on_local_status_report_reply_received(self, address: int, data: Any) -> None:
        say(event="local", address=address, tamper=bool(data.tamper), power=bool(data.power_failure))


def light(colour: str, tenths: int) -> Any:
    """A temporary steady light."""
    return osdp.ReaderLedControls([
        osdp.ReaderLedControl(
            0, 0, osdp.TemporaryReaderControlCode.SetTemporaryAndStartTimer, 10, 0,
            osdp.LedColor[colour], osdp.LedColor.Black, tenths,
            osdp.PermanentReaderControlCode.Nop, 0, 0, osdp.LedColor.Black, osdp.LedColor.Black,
        )
    ])  # fmt: skip


def main() -> None:
    path, address, key = sys.argv[1], int(sys.argv[2]), None if sys.argv[3] == "-" else bytes.fromhex(sys.argv[3])
    if key is not None:
        # it derives a reader's key from a master key and the reader's number; our readers have keys of their own
        osdp._secure_channel.SecureChannel.calculate_scbk = lambda self: key
    panel = Panel(master_key=key)
    bus = panel.start_connection(osdp.SerialPortOsdpConnection(path, 115200))
    panel.add_device(bus, address, use_crc=True, use_secure_channel=key is not None)
    device = panel._buses[bus]._configured_devices[address]
    say(event="started", version=osdp.__name__, file=osdp.__file__)
    for line in sys.stdin:
        words = line.split()
        try:
            if words[0] == "quit":
                break
            if words[0] == "state":
                secure = bool(device.is_security_established)
                say(answer="state", online=bool(panel.is_online(bus, address)), secure=secure)
            elif words[0] == "id":
                found = panel.id_report(bus, address)
                say(answer="id", vendor=bytes(found.vendor_code).hex(), model=found.model_number)
            elif words[0] == "capabilities":
                found = panel.device_capabilities(bus, address).capabilities
                say(answer="capabilities", functions=[int(each.function.value) for each in found])
            elif words[0] == "led":
                say(answer="led", ok=bool(panel.reader_led_control(bus, address, light(words[1], int(words[2])))))
            elif words[0] == "output":
                control = osdp.OutputControl(0, osdp.OutputControlCode(5), int(words[1]))
                say(answer="output", ok=bool(panel.output_control(bus, address, osdp.OutputControls([control]))))
        except Exception as exc:
            say(answer=words[0], error=repr(exc))
    panel.shutdown()
    time.sleep(0.05)
    os._exit(0)  # its polling thread may sit in a read


main()

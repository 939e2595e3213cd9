"""The one family of errors that codecs raise.

    WireError
    ├─ FrameError        a serial frame: length, checksum, stuffing
    ├─ LinkError         the device link: not MessagePack, wrong shape, too large, wrong version
    ├─ TicketCodeError   a ticket code: not ours, or forged
    ├─ RpcError          the console channel: not JSON-RPC 2.0
    ├─ BoardError        a turnstile board's language
    ├─ PrinterError      a ticket printer's answers, a print job
    ├─ IdCardError       an ID card reader's frames, a document's text
    └─ CardError         an IC card's answers, the record on it
"""


class WireError(ValueError):
    """Bytes from outside that are not what they should be. Count it, drop the frame, carry on."""


class FrameError(WireError):
    """A serial frame is damaged: wrong length, checksum or byte stuffing."""


class LinkError(WireError):
    """A device-link message is not MessagePack, has the wrong shape, or is too large."""


class TicketCodeError(WireError):
    """A scanned text is not one of our ticket codes, or its signature is wrong.

    `reason` is a refusal code: `unknown_code` (not our format) or `bad_signature` (our format, forged or damaged).
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


class RpcError(WireError):
    """A console message is not JSON-RPC 2.0, or its parameters have the wrong shape.

    `code` is the JSON-RPC 2.0 error code (section 5.1 of that specification).
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class BoardError(WireError):
    """A turnstile board's frame is damaged or not in its language."""


class PrinterError(WireError):
    """A printer's answer or a print job is not ESC/POS as we know it, or a ticket cannot be printed as asked."""


class IdCardError(WireError):
    """An ID card reader's frame is damaged, or what it read is no document that we know. Never says what was read."""


class CardError(WireError):
    """An IC card's answer is not one, or the record on it is not one of ours. Never says a key.

    `reason` is a word: `unreadable`, `random_uid`, `no_record`, `not_authentic` or `other_site`.
    """

    def __init__(self, detail: str, reason: str = "unreadable") -> None:
        super().__init__(detail)
        self.reason = reason

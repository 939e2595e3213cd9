"""The promise about faces: while they are encoded continuously, the server's loop lags less than 20 ms."""

from pathlib import Path

from bench import face

FOLDER = Path(__file__).parents[2] / "var" / "photographs"
LAG_MAX_MS = 20.0
TRIES = 4  # the machine may stop everybody for longer than that; our own doing would show in every try


def test_encoding_faces_does_not_hold_up_the_loop():
    lags = []
    for _ in range(TRIES):
        result = face.run(quick=True, folder=FOLDER)
        assert result["bench"] == "face"
        assert result["figures"]["embedded"] >= 3
        lags.append(result["figures"]["loop_lag_max_ms"])
        if lags[-1] < LAG_MAX_MS:
            break
    assert min(lags) < LAG_MAX_MS, lags

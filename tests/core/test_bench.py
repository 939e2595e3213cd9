"""The benchmark measures what it says; its targets are judged by `paifang bench runtime`, not by a test run."""

from bench import runtime


def test_a_quick_run_gives_every_figure_and_the_ratio_of_what_it_measured():
    result = runtime.run(quick=True)
    assert result["bench"] == "runtime"
    assert set(result["figures"]) == {
        "ask_p50_us",
        "ask_p99_us",
        "crash_to_reply_p50_us",
        "tell_per_s",
        "channel_per_s",
    }
    assert all(value > 0 for value in result["figures"].values())
    assert result["figures"]["ask_p50_us"] <= result["figures"]["ask_p99_us"]
    # a mailbox that took a scheduler turn per message would be at about 1, on any machine and under any load
    assert result["ratios"]["tell_vs_channel"] > 3

"""The lane file: the example is good, and every mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from paifang.cli import main
from paifang.lane import run_lane
from paifang.lanefile import LaneFileError, load_lane_file

EXAMPLE = Path(__file__).parents[2] / "sites" / "lane.toml"


def test_the_example_is_good() -> None:
    file = load_lane_file(EXAMPLE)
    assert file.lane.id == "n1"
    assert file.controller.device == "lane-n1"
    assert [zone.id for zone in file.as_site.zones] == ["park", "museum", "summit"]
    assert file.policy.answer_limit_s == 1.0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('device = "lane-n1"                # its', 'devise = "lane-n1" # its', "controller.devise: unknown key"),
        ("answer_limit_s = 1.0", "answer_limit_s = 3.0", "policy.answer_limit_s"),
        ('unlisted = "accept"', 'unlisted = "perhaps"', "policy.unlisted"),
        ('to_zone = "park"', 'to_zone = "moon"', "unknown zone moon"),
        ('lane = "n2"', 'lane = "n1"', "neighbours.lanes"),
        ('url = "tcp://10.0.0.12:8471"', 'url = "http://10.0.0.12"', "tcp://ADDRESS:PORT"),
        ("board = {", "# board = {", "a lane controller has the lane's board"),
        ("readers = [", "# readers = [", "at least one reader"),
        ("[site] ", "[site", "not TOML"),
    ],
)
def test_every_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = EXAMPLE.read_text()
    assert old in text
    path = tmp_path / "lane.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LaneFileError) as caught:
        load_lane_file(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_second_lane_is_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "lane.toml"
    path.write_text(EXAMPLE.read_text() + '\n[[lanes]]\nid = "n9"\nname = "n9"\nto_zone = "park"\n')
    with pytest.raises(LaneFileError, match="exactly one"):
        load_lane_file(path)


@pytest.mark.parametrize("arguments", [["lane", "run"], ["lane"], ["lane", "status"]])
def test_a_file_that_is_not_there_is_a_line_and_no_traceback(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [*arguments, str(tmp_path / "none.toml"), "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "cannot be read" in result.output


async def test_a_lane_without_identity_says_what_is_missing(tmp_path: Path) -> None:
    said: list[str] = []
    assert await run_lane(load_lane_file(EXAMPLE), tmp_path / "data", said.append) == 2
    assert "paifang lane enrol" in said[0]

"""Two processes under torchrun share an epoch, and continue where they were."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hcc_tace_data.errors import UsageError
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.loaders.supply.batches import BatchIterator, world

SCRIPT = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from hcc_tace_data.loaders.supply.batches import BatchIterator, world
from hcc_tace_data.loaders.store import read_record

dist.init_process_group("gloo")
rank, size = world()
cases = [read_record(Path(folder)) for folder in json.loads(sys.argv[1])]
ranges = [case.liver[0] for case in cases]

def make():
    return BatchIterator(cases, ranges, batch_size=2, seed=5, rank=rank, world_size=size)

def pairs(batches):
    return [[int(c), int(s)] for batch in batches for c, s in zip(batch["case"], batch["slice"])]

whole = make()
epochs = [pairs(whole), pairs(whole)]
begun = make()
source = iter(begun)
first = pairs([next(source)])
resumed = make()
resumed.load_state_dict(begun.state_dict())
rest = pairs(resumed)
dist.barrier()
Path(sys.argv[2], f"{rank}.json").write_text(json.dumps({"epochs": epochs, "resumed": first + rest, "size": size}))
dist.destroy_process_group()
"""


def test_two_processes_share_an_epoch(stored: list[StoredCase], tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    folders = json.dumps([str(case.folder) for case in stored])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script), folders, str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    expected = sorted([n, d] for n, case in enumerate(stored) if case.liver for d in range(*case.liver[0]))
    for epoch in (0, 1):
        shares = [rank["epochs"][epoch] for rank in ranks]
        assert sorted(shares[0] + shares[1]) == expected
    assert ranks[0]["epochs"][0] != ranks[0]["epochs"][1]
    for rank in ranks:
        assert rank["size"] == 2
        assert rank["resumed"] == rank["epochs"][0]


def test_without_partners_the_world_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert world() == (0, 1)
    assert world(1, 3) == (1, 3)
    with pytest.raises(UsageError, match="both"):
        world(1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert world() == (3, 4)


def test_every_rank_has_as_many_full_batches(stored: list[StoredCase]) -> None:
    ranges = [case.liver[0] for case in stored if case.liver]
    lengths = {
        len(list(BatchIterator(stored, ranges, batch_size=3, drop_last=True, rank=rank, world_size=3)))
        for rank in range(3)
    }
    assert len(lengths) == 1

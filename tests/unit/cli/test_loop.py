from __future__ import annotations

from evergreen.cli.follow import Stage, Task
from evergreen.cli.loop import _Reporter


def test_a_mapped_task_is_shown_with_the_name_of_what_it_works_on(capsys):
    report = _Reporter()
    stage = Stage("train_candidates", "run", "running", tasks=[Task("train", "success", 2.71, 0, 1, "xgboost")])
    report(stage)
    report(stage)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, "once a task"
    assert "train.train[xgboost]" in lines[0]
    assert lines[0].endswith("2.7 s")

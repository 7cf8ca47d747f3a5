"""Tables for tests of training."""

from pathlib import Path

import numpy as np


def write_mixed_table(folder: Path) -> Path:
    """Write 500 rows of numbers with gaps and words, with a target of each task.

    ``value`` is a number, ``reply`` yes or no, ``color`` one of three words.
    """
    generator = np.random.default_rng(0)
    x = generator.normal(size=(500, 3)).round(3)
    word = generator.choice(["north", "south", "east", ""], 500)
    score = x[:, 0] * x[:, 1] + 2 * (word == "south") + generator.normal(0, 0.1, 500)
    reply = np.where(score > 0.5, "yes", "no")
    color = np.array(["red", "green", "blue"])[np.digitize(score, [0, 1])]
    path = folder / "mixed.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("a,b,c,region,value,reply,color\n")
        for k in range(500):
            b = "" if k % 11 == 0 else x[k, 1]
            file.write(f"{x[k, 0]},{b},{x[k, 2]},{word[k]},{score[k]:.4f},{reply[k]},{color[k]}\n")
    return path

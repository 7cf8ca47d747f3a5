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


def write_table_of_words(folder: Path, labels: int = 0) -> Path:
    """Write 900 rows of a date with gaps, one of 150 cities and a number, with the target ``y``."""
    generator = np.random.default_rng(3)
    day = np.datetime64("2021-03-01T00:30") + generator.integers(0, 9000, 900) * np.timedelta64(
        1, "h"
    )
    city, number = generator.integers(0, 150, 900), generator.normal(size=900).round(3)
    month = day.astype("datetime64[M]").astype(int) % 12
    score = 3 * generator.normal(size=150)[city] + number + month
    target = (
        np.digitize(score, np.quantile(score, np.arange(1, labels) / labels)) if labels else score
    )
    cells = [f"{one}" if labels else f"{one:.4f}" for one in target]
    days = ["" if k % 17 == 0 else str(one) for k, one in enumerate(day)]
    lines = [f"{days[k]},city {city[k]},{number[k]},{cells[k]}" for k in range(900)]
    path = folder / "words.csv"
    path.write_text("\n".join(["day,city,number,y", *lines]), encoding="utf-8")
    return path

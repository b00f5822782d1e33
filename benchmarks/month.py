"""A simulated month of a shop that learns from its clicks, beside the same shop that does not.

python benchmarks/month.py --folder FOLDER --seed 1 --arm loop --out FOLDER/loop-1.json
python benchmarks/month.py --report FOLDER/*.json

Every click is simulated. A world (`month_world.py`) is drawn once per seed, and a shop with a history of searches is
founded in it; each arm goes on from a copy of that shop, with the same photos in the same order and the same chance:

    none    the shop answers by the model that ships, for thirty days
    loop    `sameitem loop` runs every evening
    ranker  only the order of the first hits is learned, by `sameitem train ranker`; the model stays

A day: new products come in and are built; shoppers search with the day's photos and click; in the evening the arm
learns; then photos that no shopper has searched with are searched with. What users like besides what they look for
(cheap, well sold, some sellers) drifts from day to day. An arm that was killed goes on with the day it was in.
"""

import argparse
import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from month_world import CATALOGUE, PHOTOS, SHOPPER, TEST, Plan, designs_of, draw_world
from numpy.typing import NDArray

from sameitem.catalog.columns import map_columns  # placeholder

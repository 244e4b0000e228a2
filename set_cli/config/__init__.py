"""What a configuration means: `keys.py` has type, unit and bounds of every key. Values are in conf/*.yaml."""

from set_cli.config.check import from_mapping as from_mapping
from set_cli.config.check import sentence as sentence
from set_cli.config.identity import identity as identity
from set_cli.config.identity import scientific as scientific
from set_cli.config.keys import DATASETS as DATASETS
from set_cli.config.keys import MODELS as MODELS
from set_cli.config.keys import Augment as Augment
from set_cli.config.keys import Backend as Backend
from set_cli.config.keys import Config as Config
from set_cli.config.keys import Data as Data
from set_cli.config.keys import Dataset as Dataset
from set_cli.config.keys import Evolve as Evolve
from set_cli.config.keys import Model as Model
from set_cli.config.keys import Train as Train
from set_cli.config.keys import flatten as flatten
from set_cli.config.keys import known_keys as known_keys
from set_cli.config.keys import model_facts as model_facts
from set_cli.config.method import METHODS as METHODS
from set_cli.config.method import Method as Method
from set_cli.config.method import method_facts as method_facts

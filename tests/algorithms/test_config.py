"""Properties of configs from which memory is estimated."""

import inspect

import pytest

import sac_bench.options.config
import sac_bench.options.metric
from sac_bench.algorithms import ALGORITHMS, SHIPPED, config, metric
from sac_bench.algorithms.hyperparameters import hyperparameters_of
from sac_bench.options.config import Layers, ReplayConfig, option


@pytest.mark.parametrize("name", SHIPPED)
def test_size_estimates_count_every_trained_network(name):
    algorithm = ALGORITHMS[name]
    for critics in (1, 2, 10) if "critics" in algorithm.config.model_fields else (None,):
        config = algorithm.config(**{} if critics is None else {"critics": critics})
        params = algorithm.learner(config, 3, 1).shape_of_state(hyperparameters_of(config))["params"]
        networks = {key: part for key, part in params.items() if key in ("actor", "critic", "value")}
        assert config.networks >= len(networks) - 1 + (critics or 1)
        assert config.hidden_units == config.networks * sum(config.layers)


def test_size_estimates_count_the_layers_of_a_new_algorithm():
    class Config(ReplayConfig):
        layers: Layers = option((64, 32), "units", "a test")
        value_layers: Layers = option((8,), "units", "a test")

    assert (Config().networks, Config().hidden_units) == (3, 3 * 104)
    assert ReplayConfig().hidden_units == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_option_is_declared_by_the_first_class_in_pythons_order(algorithm):
    """With several bases, pydantic prefers the first's inherited option to one that the second declares."""
    config = ALGORITHMS[algorithm].config
    for name, field in config.model_fields.items():
        declared_by = next(one for one in config.__mro__ if name in inspect.get_annotations(one))
        assert field.default == declared_by.model_fields[name].default, (name, declared_by)


def test_ppo_has_the_minibatches_of_its_paper():
    assert ALGORITHMS["ppo"].config().batch_size == 64  # arXiv 1707.06347, table 3


@pytest.mark.parametrize(("old", "new"), [(config, sac_bench.options.config), (metric, sac_bench.options.metric)])
def test_modules_of_users_find_what_they_import_where_it_was(old, new):
    """To edit such a module would change its runs' ids."""
    assert all(getattr(old, name) is getattr(new, name) for name in old.__all__)

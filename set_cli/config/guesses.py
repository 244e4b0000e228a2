"""What a name that is no configuration key may have meant: the same word elsewhere, a word of the field, a slip."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# difflib's ratio from which a name counts as misspelt: below it a guess is more often wrong than right. The options of
# a group are few and short.
NEAR, NEAR_OPTION = 0.7, 0.6
AMBIGUOUS = {"name", "dir", "path"}  # last parts of several keys, of which a bare word means none in particular

# Words that people use for our keys, lower case with underscores, by what they mean: a key, or a sentence.
WORDS: dict[str, str] = {
    "epsilon": "eps ε connectivity connections",
    "density=0.1 is a sparsity of 90 % in each sparse layer; epsilon shares connections out as the paper does": (
        "sparsity sparsity_level"
    ),
    "zeta": "ζ prune prune_rate pruning_rate prune_fraction drop_rate drop_fraction death_rate",
    "method.removal": "prune_rule pruning_rule prune_method pruning_method drop_rule",
    "method.regrowth": "grow growth regrow grow_rule growth_rule grow_method",
    "method.wiring": "sparse_init topology_init wire",
    "method.candidates": "n_candidates gse_gamma",
    "method.regrow_init": "growth_init new_weights",
    "method=set evolves the topology, method=fixprob keeps it as drawn, method=dense has every connection": (
        "algorithm algo topology mask pruning"
    ),
    "train.lr": "η eta alpha learning_rate learningrate step_size base_lr init_lr initial_lr",
    "train.epochs": "epoch num_epochs n_epochs nb_epochs max_epochs iterations iters max_iter",
    "train.batch_size": "batch batchsize bs mini_batch minibatch_size train_batch_size",
    "train.weight_decay": "wd decay l2 regularization",
    "train.l1": "lasso l1_penalty",
    "train.clip": "clip_norm grad_clip gradient_clipping gradient_clip_val max_grad_norm",
    "train.optimizer": "optimiser optim opt solver",
    "train.optimizer=sgd, adam and adamw are the optimisers": "adam adamw sgd rmsprop nadam",
    "train.betas": "beta1 beta2 beta adam_betas",
    "train.adam_eps": "adam_epsilon optimizer_eps",
    "train.schedule": "scheduler lr_scheduler lr_schedule lr_decay annealing",
    "train.warmup": "warmup_epochs warmup_steps warm_up n_warmup",
    "train.lr_end": "min_lr lr_min eta_min final_lr end_lr",
    "train.lr_steps": "milestones decay_epochs lr_milestones",
    "train.lr_factor": "gamma decay_factor lr_gamma",
    "train.ema": "ema_decay weight_averaging averaging polyak swa model_ema",
    "evolve.epsilon_start": "epsilon_init initial_epsilon start_epsilon",
    "evolve.density_start": "initial_density start_density",
    "evolve.epsilon_schedule": "density_schedule pruning_schedule",
    "evolve.until": "stop_fraction end_when t_end end_step last_evolution",
    "evolve.every": "update_freq update_every delta_t delta update_frequency evolve_every",
    "evolve.schedule": "zeta_schedule drop_schedule alpha_schedule zeta_decay",
    "model=mlp and model=cnn are trained with the cross-entropy, model=rbm with contrastive divergence": (
        "loss criterion objective"
    ),
    "train.patience": "early_stopping early_stop n_iter_no_change",
    "model.dropout": "drop_out dropout_rate p_drop",
    "model.hidden": (
        "hidden_size hidden_sizes hidden_dim hidden_units hidden_layer_sizes n_hidden num_hidden units neurons width"
    ),
    "model.hidden=[300,300] gives two hidden layers of 300 neurons": (
        "layers layer hidden_layers n_layers num_layers depth"
    ),
    "convolutions are 3x3; model.channels=[32,64] gives two blocks of them (model=cnn)": "filters kernel_size",
    "the data set decides it": "num_classes n_classes classes input_size input_dim output_size num_features",
    "model.activation": "act nonlinearity",
    "model.norm": "batch_norm batchnorm bn layer_norm layernorm",
    "model.slope": "negative_slope leak alpha_relu",
    "model.init": "initialization initializer weight_init",
    "model.cd_steps": "k cd cd_k gibbs_steps",
    "model.persistent": "pcd",
    "model": "arch architecture network net",
    "dataset": "data_set ds task",
    "dataset.path": "file filename csv input",
    "dataset.test_path": "test test_file",
    "dataset.label": "target labels y class",
    "dataset.group": "groups",
    "data.dir": "dir data_dir datadir root data_path",
    "data.fetch": "download",
    "data.holdout": "hold_out test_size",
    "data.valid": "val val_size validation validation_split",
    "data.train_limit": "limit subset n_samples max_samples",
    "data.scaling": "normalize normalization standardize scale",
    "data.augment.rotation, shift, flip, crop, cutout and mixup are the keys": "augment augmentation augmentations",
    "data.augment.crop": "random_crop crop_padding pad",
    "data.augment.cutout": "random_erasing erasing cut_out n_holes",
    "data.augment.mixup": "mixup_alpha mix_up",
    "data.augment.rotation": "rotate degrees",
    "data.augment.flip": "hflip horizontal_flip random_flip",
    "train.label_smoothing": "smoothing label_smooth ls_eps",
    "train.class_weights": "class_weight pos_weight balance",
    "seed": "random_seed random_state manual_seed rng seeds",
    "runs_dir": "out output output_dir out_dir log_dir logdir save_dir rundir run_dir",
    "a run's folder is named after its settings; runs_dir=… says where it is made": "name run_name experiment_name",
    "progress=none shows the result only": "quiet q silent",
    "progress": "verbose verbosity",
    "time_limit": "timeout max_time",
    "resume=never trains again in a new folder": "force overwrite restart",
    "retry_failed": "retry",
    "checkpoints.minutes": "checkpoint save_every",
    "backend=cuda computes on a GPU, backend=cpu on the CPU": (
        "device gpu gpus cuda cpu use_cuda no_cuda use_gpu accelerator"
    ),
    "backend.threads": "workers num_workers num_threads n_threads",
    "hydra/launcher=joblib hydra.launcher.n_jobs=2 trains two runs of a sweep at once": "n_jobs jobs j",
    "backend.precision": "dtype amp fp16 bf16 half",
}
MEANT = {word: meaning for meaning, words in WORDS.items() for word in words.split()}

# Words for an option of a group, and the option.
OPTIONS: dict[str, dict[str, str]] = {
    "model": {
        **dict.fromkeys(("lenet", "lenet5", "resnet", "vgg", "vgg16", "conv", "convnet", "alexnet"), "cnn"),
        **dict.fromkeys(("set-mlp", "set_mlp", "dnn", "fc", "nn", "ann", "feedforward", "perceptron"), "mlp"),
        **dict.fromkeys(("set-rbm", "set_rbm", "boltzmann", "dbn", "autoencoder"), "rbm"),
    },
    "method": {
        **dict.fromkeys(("fixed", "static", "random", "er", "erdos_renyi", "fix_prob"), "fixprob"),
        **dict.fromkeys(("full", "fc", "baseline", "none"), "dense"),
        **dict.fromkeys(("sparse", "evolve", "evolutionary", "dynamic"), "set"),
    },
    "backend": dict.fromkeys(("gpu", "nvidia", "cuda:0"), "cuda"),
    "dataset": {
        **dict.fromkeys(("cifar", "cifar-10", "cifar_10"), "cifar10"),
        **dict.fromkeys(("fashion", "fashion-mnist", "fmnist", "fashionmnist"), "fashion_mnist"),
        **dict.fromkeys(("csv", "own", "mine", "file", "npz"), "custom"),
    },
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean x?' where one of a few known names is near, else nothing."""
    found = nearest(name, known, NEAR_OPTION)
    return f"; did you mean {found}?" if found else ""


def nearest(name: str, known: Iterable[str], cutoff: float) -> str | None:
    """The known name that was misspelt, if one is near; upper and lower case are one."""
    by_case = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=cutoff)
    return by_case[found[0]] if found else None


def option_meant(group: str, name: str, known: Iterable[str]) -> str:
    """'; did you mean x?' of an option of a group: dataset=MNIST, model=lenet."""
    meant = OPTIONS.get(group, {}).get(name.lower())
    return f"; did you mean {meant}?" if meant else did_you_mean(name, known)


def not_a_key(name: str, known: Iterable[str]) -> str:
    """'lr is not a configuration key; did you mean train.lr?', or what there is instead of such a key."""
    meant = meaning(name, known)
    if len(meant) == 1 and " " in meant[0]:
        return f"{name} is not a configuration key; {meant[0]}"
    guess = f"; did you mean {' or '.join(meant)}?" if meant else ""
    return f"{name} is not a configuration key{guess} (set-train --help lists them)"


def meaning(name: str, known: Iterable[str]) -> list[str]:
    """The keys that a name may have meant, or one sentence about what there is; nothing where nobody can say.

    The same last part comes first (lr, optim.lr: train.lr), then words of the field, then what is spelt nearly so.
    """
    keys = [*known]
    groups = sorted({key.partition(".")[0] for key in keys})
    section, _, last = name.lower().replace("-", "_").rpartition(".")
    if last in groups:
        return [last]
    same = [key for key in keys if key.rpartition(".")[2] == last and last not in AMBIGUOUS]
    if same or last in MEANT:
        return same or [MEANT[last]]
    inside = {key.rpartition(".")[2]: key for key in reversed(keys) if not section or key.startswith(f"{section}.")}
    if part := nearest(last, inside, NEAR):
        return [inside[part]]
    found = None if section in groups else nearest(name, keys + groups, NEAR)
    return [found] if found else []

"""Pretraining: hidden patches first, without a label, then a task with few labels."""

import dataclasses

from stpatch_jax.nn import PatchTransformerConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.movement import MovementConfig
from stpatch_jax.recipes.registry import register
from stpatch_jax.recipes.video import ClipClassesConfig
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import ClassifyConfig, ReconstructConfig
from stpatch_jax.training import TrainConfig


@register("pretrain", data="clips made of the digits that scikit-learn ships")
def pretrain() -> RunConfig:
    """Reconstructs hidden patches of clips of a moving digit, whose labels are not looked at.

    Afterwards `stpatch train pretrain-motion --start-from RUN` trains the backbone to tell where
    digits head, with the `--workdir` of this run as RUN.

    A transformer, because its tokens keep the grid that patches are hidden in: a convolution with
    pooling keeps of a clip only what fills a hidden patch roughly, and was no better a start than
    random weights.
    """
    return RunConfig(
        data=ClipClassesConfig(label="motion"),
        model=PatchTransformerConfig(WindowSpec((2, 8, 8)), features=96, depth=3, heads=4),
        task=ReconstructConfig((2, 8, 8), mask_ratio=0.5),
        train=TrainConfig.cosine(
            4000, 1e-3, checkpoint_every=1000, weight_decay=1e-3, warmup_steps=50
        ),
    )


@register("pretrain-motion", data="clips made of the digits that scikit-learn ships")
def pretrain_motion() -> RunConfig:
    """Says in which of eight directions a digit moves, with the network of `pretrain`.

    Of a thousand labelled clips; `--data.train-clips 100` takes a tenth of them.
    """
    before = pretrain()
    return dataclasses.replace(
        before,
        data=dataclasses.replace(before.data, train_clips=1000),
        task=ClassifyConfig(hidden=(), reduce="mean"),
        train=dataclasses.replace(
            before.train, steps=300, checkpoint_every=300, evaluate_every=300
        ),
    )


@register("pretrain-stocks", data="ACL18 (2.4 MB) in STPATCH_DATA, else made from a seed")
def pretrain_stocks() -> RunConfig:
    """Reconstructs hidden days of single stocks, whose movement is not looked at.

    Afterwards `stpatch train pretrain-movement --start-from RUN` trains the backbone to tell
    whether a stock rises or falls on the next day.
    """
    return RunConfig(
        data=MovementConfig(path="catalog:acl18", lag=10),
        model=PatchTransformerConfig(WindowSpec((1,)), features=32, depth=2, heads=4, dropout=0.1),
        task=ReconstructConfig((1,), mask_ratio=0.3),
        train=TrainConfig.cosine(
            600, 1e-3, batch_size=256, checkpoint_every=600, weight_decay=1e-2, warmup_steps=20
        ),
    )


@register("pretrain-movement", data="ACL18 (2.4 MB) in STPATCH_DATA, else made from a seed")
def pretrain_movement() -> RunConfig:
    """Says whether a stock rises or falls, with the network of `pretrain-stocks`.

    `--data.train-from 2015-06-05` leaves the last tenth of the labelled days.
    """
    before = pretrain_stocks()
    optimizer = dataclasses.replace(before.train.optimizer, learning_rate=5e-4)
    return dataclasses.replace(
        before,
        task=ClassifyConfig(hidden=(), reduce="mean"),
        train=dataclasses.replace(
            before.train, steps=150, checkpoint_every=150, evaluate_every=150, optimizer=optimizer
        ),
    )

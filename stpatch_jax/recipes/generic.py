"""The recipes for data of your own, one a task."""

import dataclasses

from stpatch_jax import data, nn, tasks
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.training import TrainConfig


@register("forecast", data="your own file")
def forecast() -> RunConfig:
    """Forecasts your own file: a series, a panel, a map, a volume or a video, by `--data.path`.

    What is not said is told by the file: seasons, context and horizon, the windows, the batch; the
    report says what was chosen and why. `--data.horizon 24` is how far to forecast, and
    `--data.variables` what of the file; `--model NAME` takes another network.

    What is forecast is a combination of the naive rules and of linear maps, as rolling origins
    before the test span would have had it, and of a trained network as much as the validation split
    is sure of. The network averages two linear maps of the past of each window, which is one patch:
    one sees its level and the other does not.
    """
    return RunConfig(
        data=data.FieldConfig(
            gaps="auto",
            context="auto",
            horizon="auto",
            season="auto",
            climatology="auto",
            combination=True,
        ),
        model=nn.FlatPatchesConfig(),
        task=tasks.ForecastConfig(
            loss="mse",
            normalize="both",
            bias=False,
            model_weight="validation",
            weighed_against="auto",
        ),
        train=TrainConfig.cosine(
            300,
            2e-3,
            batch_size="auto",
            checkpoint_every=100,
            optimizer="adam",
            weight_decay=1e-3,
            warmup_steps=20,
        ),
    )


@register("reconstruct", data="your own file")
def reconstruct() -> RunConfig:
    """Reconstructs hidden patches of your own file: a series, a panel, a map, a volume or a video.

    `--data.path FILE` names it, `--data.horizon` is how many time steps an example has, and half of
    its patches are hidden, `--task.window` cells each. `stpatch predict` fills the same patches of
    another file.

    What is learnt without a label is a start for a task with few: `stpatch train forecast --model
    patch_transformer ... --start-from RUN` begins with this backbone, where its settings are the
    same.
    """
    return RunConfig(
        data=data.FieldPartsConfig(horizon="auto"),
        model=nn.PatchTransformerConfig(features=64, depth=2, heads=4),
        task=tasks.ReconstructConfig(mask_ratio=0.5),
        train=TrainConfig.cosine(
            300, 2e-3, batch_size="auto", checkpoint_every=100, weight_decay=1e-3, warmup_steps=20
        ),
    )


@register("classify", data="your own: folders, .npz, tables, texts")
def classify() -> RunConfig:
    """Classifies the items of your own data: series, images, clips, volumes, texts or table rows.

    `--data.path` names a folder with a folder of files for each class, an `.npz` file of arrays, a
    table of texts or numbers with a column of labels, or series as the UCR archive stores them;
    `--data.inputs`, `--data.text` and `--data.labels` say which arrays or columns are meant where
    their names do not. What is not said is told by the data, and by the report.

    Patches are read by a small network, convolutions over neighbours and a recurrence over time
    follow; each class counts the same, however many items it has. It is compared, on folds of the
    training examples, with ridge regression on random features: of series on dilated kernels, of
    rows and texts on units of their numbers or of what their words tell in sum. These take its
    place where it is not surely better. `--model NAME` takes another network.
    """
    return RunConfig(
        data=data.LabelledConfig(validation_share="auto"),
        model=nn.ConvRecurrentConfig(
            patch_features=(16, 32),
            grid_features=32,
            grid_depth=1,
            recurrent_features=32,
            dropout=0.1,
        ),
        task=tasks.ClassifyConfig(class_weights="balanced", compare="random_features"),
        train=TrainConfig.cosine(
            400, 3e-3, batch_size="auto", checkpoint_every=100, weight_decay=1e-2, warmup_steps=20
        ),
    )


@register("regress", data="your own: .npz, tables, texts")
def regress() -> RunConfig:
    """Tells numbers for the items of your own data: series, images, volumes, texts or table rows.

    `--data.path` names an `.npz` file of arrays, or a table of texts or numbers with columns of
    what is to be told; `--data.labels age weight` names these, `--data.inputs` or `--data.text`
    from what. What is not said is told by the data, and by the report.

    The network is that of `classify`, and is compared in the same way by its squared error.
    `--task.loss mae` tells medians, by the network alone, `mse` means; `--model NAME` takes another
    network.
    """
    own = data.MeasuredConfig(validation_share="auto")
    task = tasks.RegressConfig(compare="random_features")
    return dataclasses.replace(classify(), data=own, task=task)


@register("segment", data="made from a seed, or your own images with masks")
def segment() -> RunConfig:
    """Gives every cell of images, volumes or clips a class, learnt from images with masks.

    `--data.path` takes an `.npz` file or a folder of images and masks, see `read_masked_images`;
    without one, volumes of 32 x 32 x 32 cells with balls and tubes in noise are made of a seed.

    Windows of 2 cells along each axis are what a small U-Net sees at its finest scale.
    """
    return RunConfig(
        data=data.SegmentedFieldsConfig(),
        model=nn.UNetConfig(side=2, features=(16, 32)),
        task=tasks.SegmentConfig(),
        train=TrainConfig.cosine(
            250, 1e-2, batch_size=4, checkpoint_every=125, evaluate_every=125, weight_decay=1e-3
        ),
    )


@register("detect", data="your own: COCO, a table of boxes beside images, .npz")
def detect() -> RunConfig:
    """Finds objects in your own pictures, clips or volumes: a box, a class and a score for each.

    `--data.path` names a `.json` of COCO, a table with a row for each box, a folder with one of
    them beside the images, or an `.npz` file of arrays, see `read_boxes`. Pictures of several sizes
    are resized with their boxes. What is not said is told by the data, and by the report.

    Every window says whether an object has its middle there, which, and how far it reaches; of
    several in one window the smallest is learnt: mind `lost_objects` in the log, and make windows
    smaller by `--model.side`. Training pictures are mirrored; where left and right tell the classes
    apart, give `--data.augmentation.flip` without a number.
    """
    return RunConfig(
        data=data.BoxedConfig(augmentation=data.Augmentation(flip=(1,))),
        model=nn.UNetConfig(),
        task=tasks.DetectConfig(hidden=(64,)),
        train=TrainConfig.cosine(
            1000, 2e-3, batch_size="auto", checkpoint_every=250, weight_decay=1e-3, warmup_steps=50
        ),
    )

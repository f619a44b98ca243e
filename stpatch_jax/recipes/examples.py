"""The recipes of published data sets, each in its protocol, and of folders of clips."""

from stpatch_jax import data, nn, tasks
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.training import OptimizerConfig, TrainConfig


@register("stocks", data="ten monthly prices that matplotlib ships, or your own table")
def stocks() -> RunConfig:
    """Forecasts the prices of a panel of companies, 24 rows in, 6 rows out.

    By default from the monthly table of ten names that matplotlib ships; `--data.path` reads a
    daily table of open, high, low, close, adjusted close and volume, or any wide table.

    Each patch is 4 rows of one company, overlapping by half: the order of companies carries no
    meaning, so no patch and no convolution reaches across neighbours along that axis.
    """
    return RunConfig(
        data=data.PanelConfig(context=24, horizon=6),
        model=nn.ConvRecurrentConfig(
            WindowSpec((4, 1), stride=(2, 1)),
            patch_features=(16, 32),
            grid_features=32,
            grid_depth=1,
            spatial_kernel_size=1,
            recurrent_features=32,
            dropout=0.2,
        ),
        task=tasks.ForecastConfig(loss="huber"),
        train=TrainConfig(
            steps=200,
            batch_size=32,
            checkpoint_every=50,
            evaluate_every=25,
            optimizer=OptimizerConfig(learning_rate=5e-4, weight_decay=1e-2, warmup_steps=40),
        ),
    )


@register("exchange", data="exchange_rate, fetched (0.6 MB)")
def exchange() -> RunConfig:
    """Forecasts daily exchange rates, 24 days in, 96 out, in the protocol of exchange_rate.

    Any table of series can take its place with `--data.path`. `--data.horizon` 192, 336 and 720 are
    the other published settings.

    Repeating the last value is hard to beat here. The forecast is that value, drawn a little
    towards a linear map of the last 24: how far, the rows before the test span tell, at thirty
    origins (`rolling_weight`). The validation span alone, which drifts one way, cannot.
    """
    return RunConfig(
        data=data.FieldConfig(path="catalog:exchange_rate", context=24, horizon=96),
        model=nn.FlatPatchesConfig(WindowSpec((None, 1))),
        task=tasks.ForecastConfig(loss="mse", model_weight="auto"),
        train=TrainConfig.cosine(
            800, 1e-3, checkpoint_every=400, optimizer="adam", weight_decay=0.0, warmup_steps=40
        ),
    )


@register("etth1", data="ETTh1, fetched (2.6 MB)")
def etth1() -> RunConfig:
    """Forecasts hourly series, 336 hours in, 96 out, in the protocol of ETTh1.

    Any wide or long table of series can take its place with `--data.path`; of the first 14,400 rows
    60 % are trained and 20 % tested on. `--data.horizon` 192, 336 and 720 are the other published
    settings.

    One patch is the whole past of one series, and the same two linear maps forecast every series:
    one sees its level, the other does not, and the forecast is their mean. Where levels may or may
    not come back, no deeper network that was tried did better on validation. Neither adds a
    constant: on rolling origins before the test span the drift of the past year did not go on.
    """
    return RunConfig(
        data=data.FieldConfig(
            path="catalog:etth1",
            context=336,
            horizon=96,
            train_share=0.6,
            test_share=0.2,
            most_rows=14400,
            season=24,
        ),
        model=nn.FlatPatchesConfig(WindowSpec((None, 1))),
        task=tasks.ForecastConfig(loss="mse", residual="none", normalize="both", bias=False),
        train=TrainConfig.cosine(
            2000,
            2e-3,
            checkpoint_every=1000,
            optimizer="adam",
            # Ridge regression: the steps suffice to come close to its closed form.
            weight_decay=5e-4,
            warmup_steps=100,
        ),
    )


@register("traffic", data="BikeNYC (0.2 MB) in STPATCH_DATA, else made from a seed")
def traffic() -> RunConfig:
    """Forecasts the in- and outflow of a grid one hour ahead, in the protocol of BikeNYC.

    Any file of hourly grids can take its place with `--data.path`. The last ten days are tested on.
    Only 47 days lie before them here, of which all but two are trained on, by which alerts are
    calibrated; published networks were trained on 173. Settings were chosen on spans of five days
    from the 22nd day on, each forecast by what lies before it.

    One small network for all cells sees how far the last three hours of a cell were from what is
    usual at that hour of a working day or of a weekend, as a share of what is usual, the same of
    the grid as a whole, and what is usual one hour ahead, to which its forecast is added. Neither
    the cells around it, what happened a day or a week ago, more hours, the hour itself, usual
    values of each weekday nor boosted trees added to that. Congestion is a flow above the 90 %
    quantile of its cell.
    """
    return RunConfig(
        data=data.FieldConfig(
            path="catalog:bikenyc",
            context=3,
            horizon=1,
            train_share=0.79,
            test_share=0.1754,
            season=7 * 24,
            climatology="workday_hour",
            anomalies=True,
            relative=True,
            climatology_channel=True,
            space_means=True,
            cleaning=data.CleaningConfig(per="channel"),
            alert=data.AlertConfig("above", 0.9, quantile=True),
        ),
        model=nn.NeighborhoodConfig(((0, 0),), lags=3, hidden=(64, 32), features=16),
        task=tasks.ForecastConfig(loss="mse", residual="relative"),
        train=TrainConfig.cosine(
            1000, 2e-2, checkpoint_every=200, ema=0.99, weight_decay=1e-2, warmup_steps=20
        ),
    )


@register("weather", data="ERA5 over Britain (1.8 MB) in STPATCH_DATA, else made from a seed")
def weather() -> RunConfig:
    """Forecasts the 2 m temperature on a map for 24 hours, from the 25 before.

    Any gridded file of hours can take its place with `--data.path`; files of other values than
    temperatures have no frost to be warned of. 60 % of the hours are trained and the last 20 %
    tested on.

    What is forecast are departures from the mean of each hour of the day. Weather comes with the
    wind, so each cell is told from a dilated window: 5 x 5 cells that lie 6 apart, every 4th hour;
    at the border the outermost cells stand for those outside. Two linear maps of it are averaged:
    one believes that departures fade, the other, which does not see their level, that the level
    stays. The forecast is 70 % of that and 30 % of the same hour yesterday, because a month of
    weather cannot tell which of the three it will be.

    Window and weight were chosen on origins before the test span. There the error over leads of 6
    to 24 hours was 0.78 and 0.82 of that of the same hour yesterday; a cell's own past alone, half
    and half with yesterday, had 0.86 and 0.85. In the first hour persistence is better.
    """
    return RunConfig(
        data=data.FieldConfig(
            path="catalog:era5_uk",
            context=25,
            horizon=24,
            train_share=0.6,
            test_share=0.2,
            season=24,
            climatology="hour",
            anomalies=True,
            cleaning=data.CleaningConfig(per="channel"),
            alert=data.AlertConfig("below", 273.15, unit="K"),
        ),
        model=nn.FlatPatchesConfig(
            WindowSpec(
                (7, 5, 5),
                stride=(7, 1, 1),
                dilation=(4, 6, 6),
                padding=("VALID", "SAME", "SAME"),
                padding_mode="edge",
            )
        ),
        task=tasks.ForecastConfig(
            loss="mse",
            residual="climatology",
            normalize="both",
            bias=False,
            model_weight=0.7,
            weighed_against="season",
        ),
        train=TrainConfig.cosine(
            200,
            3e-3,
            batch_size=8,
            checkpoint_every=100,
            optimizer="adam",
            weight_decay=1e-3,
            warmup_steps=20,
        ),
    )


@register("heartbeat", data="ECG200 (0.2 MB) in STPATCH_DATA, else made from a seed")
def heartbeat() -> RunConfig:
    """Classifies single heartbeats of an electrocardiogram, in the protocol of ECG200.

    Any pair of files of the UCR archive can take its place with `--data.path NAME_TRAIN.tsv`. All
    training series are trained on, and the last step counts.

    A hundred series of 96 values ask for no more than a perceptron of three layers with dropout:
    convolutions did no better in ten-fold cross-validation of the training series. Nor does the
    average of five networks, `--task.members 5`, but it depends less on the seed.
    """
    return RunConfig(
        data=data.LabelledSeriesConfig(path="catalog:ecg200_train"),
        model=nn.FlatPatchesConfig(WindowSpec((None,)), dropout=0.1),
        task=tasks.ClassifyConfig(hidden=(500, 500, 500)),
        train=TrainConfig.cosine(1000, 5e-4, batch_size=16, checkpoint_every=500, optimizer="adam"),
    )


@register("scan", data="AdrenalMNIST3D, fetched (0.3 MB)")
def scan() -> RunConfig:
    """Classifies volumes of 28 x 28 x 28 cells, in the protocol of AdrenalMNIST3D.

    Any `.npz` of 3-D volumes of MedMNIST can take its place with `--data.path`.

    No network: by how much the outputs of random filters of 3 x 3 x 3 cells, dense and dilated, are
    above biases on average over a volume is told to ridge regression, and five such sets of filters
    are averaged. How a gland lies in the body counts, where it lies does not.

    In five folds of the training and validation volumes the AUC was .017 (.007 to .027) above that
    of two stages of convolution on volumes moved by up to two cells, which turning, mirroring, more
    stages and more steps had not helped.
    """
    return RunConfig(
        data=data.LabelledVolumesConfig(path="catalog:adrenal"),
        model=nn.RandomFiltersConfig(WindowSpec((None,) * 4)),
        task=tasks.ClassifyConfig(members=5),
        train=TrainConfig(),
    )


@register("clip", data="your own folder, of a folder of videos for each class")
def clip() -> RunConfig:
    """Classifies the video files of any folder that holds one folder of files for each class.

    `--data.path FOLDER` names it. Of each file 8 frames are seen, resized to 64 x 64; training sees
    other frames, other squares of the picture and its mirror image each time. Where left and right
    are what tells the classes apart, give `--data.augmentation.flip` without a number.

    A small network reads patches of 16 x 16 pixels frame by frame, convolutions over neighbours and
    a recurrence over time follow.
    """
    return RunConfig(
        data=data.LabelledClipsConfig(
            augmentation=data.Augmentation(flip=(1,), contrast=0.2, brightness=0.2)
        ),
        model=nn.ConvRecurrentConfig(
            WindowSpec((1, 16, 16)),
            patch_features=(16, 32, 64),
            grid_features=64,
            grid_depth=1,
            recurrent_features=64,
            dropout=0.1,
        ),
        task=tasks.ClassifyConfig(hidden=(), reduce="mean", class_weights="balanced"),
        train=TrainConfig.cosine(
            1000, 1e-3, batch_size=16, checkpoint_every=250, weight_decay=1e-2, warmup_steps=50
        ),
    )


@register("language", data="lines of film reviews, fetched (0.6 MB)")
def language() -> RunConfig:
    """Predicts each character of a text from those before it, and writes lines of its own.

    Any text file can take the place of the film reviews with `--data.path`.

    Each character becomes the sum of the vectors of the text windows of 1 to 6 characters that end
    with it, and a perceptron of one hidden layer tells the next one from the sum. An LSTM over the
    same vectors was far behind after as many seconds on one core.
    """
    return RunConfig(
        data=data.CharactersConfig(path="catalog:reviews_positive", window=128, context=16),
        model=nn.TokenEmbeddingConfig(
            nn.PatchCNNConfig(WindowSpec((1,)), features=(256,)),
            vocabulary=256,
            features=64,
            longest_window=6,
            dropout=0.2,
        ),
        task=tasks.NextTokenConfig(),
        train=TrainConfig.cosine(
            1500, 3e-3, checkpoint_every=500, evaluate_every=250, optimizer="adam", weight_decay=0.0
        ),
    )

"""Language: which character comes next?"""

from stpatch_jax.data import CharactersConfig
from stpatch_jax.nn import PatchCNNConfig, TokenEmbeddingConfig
from stpatch_jax.patches import WindowSpec
from stpatch_jax.recipes.registry import register
from stpatch_jax.runs import RunConfig
from stpatch_jax.tasks import NextTokenConfig
from stpatch_jax.training import TrainConfig


@register("language", data="lines of film reviews, fetched (0.6 MB)")
def language() -> RunConfig:
    """Predicts each character of a text from those before it, and writes lines of its own.

    Any text file can take the place of the film reviews with `--data.path`.

    Each character becomes the sum of the vectors of the text windows of 1 to 6 characters that end
    with it, and a perceptron of one hidden layer tells the next one from the sum. An LSTM over the
    same vectors was far behind after as many seconds on one core.
    """
    return RunConfig(
        data=CharactersConfig(path="catalog:reviews_positive", window=128, context=16),
        model=TokenEmbeddingConfig(
            PatchCNNConfig(WindowSpec((1,)), features=(256,)),
            vocabulary=256,
            features=64,
            longest_window=6,
            dropout=0.2,
        ),
        task=NextTokenConfig(),
        train=TrainConfig.cosine(
            1500, 3e-3, checkpoint_every=500, evaluate_every=250, optimizer="adam", weight_decay=0.0
        ),
    )

"""Text files that come in pairs: one of positive lines, one of negative ones."""

from stpatch_jax.data.problem import located

_OPPOSITES = (("positive", "negative"), (".pos", ".neg"), ("_pos", "_neg"))


def text_pair(path: str) -> dict[str, str]:
    """The files of both classes, where a file is one of a pair.

    Args:
        path: One of two files whose names differ in `positive` and `negative`, or in `pos` and
            `neg` behind a dot or an underscore; also as `catalog:NAME`.

    Returns:
        The files of `negative` and `positive` lines; empty where the name is none of a pair.

    >>> text_pair("reviews/movies.pos")
    {'negative': 'reviews/movies.neg', 'positive': 'reviews/movies.pos'}
    """
    folder, slash, name = path.rpartition("/")
    for positive, negative in _OPPOSITES:
        if positive in name or negative in name:
            pair = {
                "negative": name.replace(positive, negative),
                "positive": name.replace(negative, positive),
            }
            return {label: located(folder + slash + file) for label, file in pair.items()}
    return {}

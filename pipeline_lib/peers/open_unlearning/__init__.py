"""OpenUnlearning's results of a TOFU evaluation: read.py reads them, export.py writes any run of ours so.

Source: OpenUnlearning (arXiv 2506.12618), its `TOFU_EVAL.json` (per-example values) and `TOFU_SUMMARY.json`
(one number a metric). In the former a metric is {"agg_value": number, "value_by_index": {"0": {...}, ...}};
membership attacks hold such a pair for "forget" and for "holdout". Losses are means per token, in nats.
How its definitions differ from those of metrics/:
    probability with options, truth ratio   1e-10 is added to each denominator; with very unlikely texts
                                            (per token below 1e-10) that decides the value
    forget quality                          the same KS test, on wrong / (right + 1e-10): ties where right is
                                            far below 1e-10, where log R still tells rows apart
    extraction strength                     never 0: 1 / length where nothing is extractable; the end token is
                                            not counted. The length is not in the log, so it cannot be
                                            recomputed
    exact memorization                      the end token is not counted
    Min-K%, Min-K%++, their AUC             the end token is not counted
    ROUGE                                   the words of rouge-score for every text: an answer in another
                                            script than Latin scores 0, a word with an accent falls apart
                                            (in ours too, where accents are few: metrics/rouge.py)
    rows that are null or NaN               left out of every mean, here counted as `dropped`
    PrivLeak                                1e-10 is added to the denominator, which ours holds at half a
                                            pair's weight; without a log of the retrained model its AUC is
                                            taken to be 0.5
"""

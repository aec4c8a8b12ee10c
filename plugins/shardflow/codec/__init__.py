"""Lossless encodings of chunks of numbers: bytes in, bytes out; no files, no network, no threads, no store."""

from shardflow.codec.against import Chosen, encode_against, estimate
from shardflow.codec.casts import cast
from shardflow.codec.chunks import decode, encode, leads_to
from shardflow.codec.delta import unchanged
from shardflow.codec.encoded import MAX_BYTES, CodecId, Encoded
from shardflow.codec.factors import Factors, factor_chunks
from shardflow.codec.fitting.factors import factors_from_adapter, fit_factors
from shardflow.codec.fitting.scales import fitted_cast
from shardflow.codec.merges import merged
from shardflow.codec.predicted import Prediction
from shardflow.codec.scales import Scale

__all__ = [
    "MAX_BYTES",
    "Chosen",
    "CodecId",
    "Encoded",
    "Factors",
    "Prediction",
    "Scale",
    "cast",
    "decode",
    "encode",
    "encode_against",
    "estimate",
    "factor_chunks",
    "factors_from_adapter",
    "fit_factors",
    "fitted_cast",
    "leads_to",
    "merged",
    "unchanged",
]

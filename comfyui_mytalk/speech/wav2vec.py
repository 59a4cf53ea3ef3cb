"""Reading wav2vec 2.0, HuBERT, WavLM and Whisper encoders from local files, whatever their size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import InputError
from .whisper import from_hugging_face, is_whisper

FAMILIES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}  # how transformers' classes begin


def build_encoder(config: dict[str, Any], state: dict[str, Tensor], source: Path) -> nn.Module:
    """The network of a Hugging Face configuration with `state`; raises InputError when they do not fit."""
    import transformers  # takes as long as torch does, and what ships needs none of it

    family = config.get("model_type", "wav2vec2")
    if family not in FAMILIES:
        raise InputError(f"got a {family} model in {source}, expected one of {', '.join(FAMILIES)}")
    config_class, model_class = (getattr(transformers, FAMILIES[family] + kind) for kind in ("Config", "Model"))
    model = model_class(config_class(**config))
    result = model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    missing = [name for name in result.missing_keys if name != "masked_spec_embed"]
    if missing:
        raise InputError(f"{source} lacks {len(missing)} tensors of its encoder ({missing[0]}, ...); download it again")
    return model.eval()


def read_encoder_folder(folder: Path) -> nn.Module:
    """A Hugging Face folder: `config.json` and `model.safetensors` (or its numbered parts)."""
    files = weight_files(folder)
    if not (folder / "config.json").is_file() or not files:
        raise InputError(f"{folder} is no speech encoder: expected config.json and model.safetensors in it (not .bin)")
    state = {name: tensor for file in files for name, tensor in read_state(file).items()}
    if is_whisper(state):
        return from_hugging_face(state)
    return build_encoder(json.loads((folder / "config.json").read_text()), modern_names(state), folder)


def read_encoder_file(path: Path) -> nn.Module:
    """A single file without configuration, as in a host's `models/audio_encoders`: sizes come from the tensors."""
    state = read_state(path)
    if is_whisper(state):
        return from_hugging_face(state)
    state = modern_names(state)
    if "feature_extractor.conv_layers.0.conv.weight" not in state:
        raise InputError(
            f"{path} is no wav2vec 2.0, HuBERT, WavLM or Whisper encoder; give a folder or file of one of these"
        )
    return build_encoder(infer_config(state), state, path)


def weight_files(folder: Path) -> list[Path]:
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))


def read_state(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read speech encoder {path}: {error}; download it again") from error


def is_foreign(path: Path, own_format: str) -> bool:
    """Whether `path` is a readable safetensors file that this project did not write."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") != own_format
    except (SafetensorError, OSError):
        return False


def modern_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of the bare encoder in today's transformers, whatever head or version the file was saved with."""
    renamed = {}
    for name, tensor in state.items():
        for prefix in FAMILIES:
            name = name.removeprefix(f"{prefix}.")
        name = name.replace("conv.weight_g", "conv.parametrizations.weight.original0")
        renamed[name.replace("conv.weight_v", "conv.parametrizations.weight.original1")] = tensor
    return renamed


def infer_config(state: dict[str, Tensor]) -> dict[str, Any]:
    """The configuration that tensor shapes give away; strides and head sizes are the family's standard ones."""
    convolutions = _stack(state, "feature_extractor.conv_layers.{}.conv.weight")
    hidden = state["feature_projection.projection.weight"].shape[0]
    position = state["encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    per_frame_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    config = {
        "model_type": "wav2vec2",
        "conv_dim": [weight.shape[0] for weight in convolutions],
        "conv_kernel": [weight.shape[2] for weight in convolutions],
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in state,
        "feat_extract_norm": "layer" if per_frame_norm else "group",
        "do_stable_layer_norm": per_frame_norm,
        "hidden_size": hidden,
        "num_hidden_layers": len(_stack(state, "encoder.layers.{}.attention.k_proj.weight")),
        "num_attention_heads": hidden // 64 if hidden <= 1024 else 16,
        "intermediate_size": state["encoder.layers.0.feed_forward.intermediate_dense.weight"].shape[0],
        "num_conv_pos_embeddings": position.shape[2],
        "num_conv_pos_embedding_groups": hidden // position.shape[1],
    }
    buckets = state.get("encoder.layers.0.attention.rel_attn_embed.weight")
    return config if buckets is None else config | {"model_type": "wavlm", "num_buckets": buckets.shape[0]}


def _stack(state: dict[str, Tensor], pattern: str) -> list[Tensor]:
    """Tensors of consecutive layers, from 0 until one is missing."""
    tensors: list[Tensor] = []
    while (tensor := state.get(pattern.format(len(tensors)))) is not None:
        tensors.append(tensor)
    return tensors

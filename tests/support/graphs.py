"""Graphs as the frontend saves them (UI format 0.4) and as the host runs them (API format)."""

from __future__ import annotations

from typing import Any

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
UNSEEN = {"MarkdownNote": 1}  # frontend-only nodes and how many widget values they have


def core(inputs: dict[str, str], outputs: list[str], hidden_values: int = 0, optional: tuple[str, ...] = ()) -> dict:
    """A core node of ComfyUI 0.3.64 in the form of /object_info. `hidden_values`: upload buttons and players."""
    groups: dict[str, dict] = {"required": {}, "optional": {}}
    for name, kind in inputs.items():
        options = {"control_after_generate": True} if name == "seed" else {}
        groups["optional" if name in optional else "required"][name] = (kind, options)
    return {"input": groups, "output": outputs, "hidden_values": hidden_values}


CORE = {
    "LoadVideo": core({"file": "COMBO"}, ["VIDEO"], hidden_values=1),
    "LoadAudio": core({"audio": "COMBO"}, ["AUDIO"], hidden_values=2),
    "GetVideoComponents": core({"video": "VIDEO"}, ["IMAGE", "AUDIO", "FLOAT"]),
    "CreateVideo": core({"images": "IMAGE", "fps": "FLOAT", "audio": "AUDIO"}, ["VIDEO"], optional=("audio",)),
    "SaveVideo": core({"video": "VIDEO", "filename_prefix": "STRING", "format": "COMBO", "codec": "COMBO"}, []),
    "PreviewAny": core({"source": "*"}, []),
    "PreviewImage": core({"images": "IMAGE"}, []),
    "MaskPreview": core({"mask": "MASK"}, []),
    "LoadImage": core({"image": "COMBO"}, ["IMAGE", "MASK"], hidden_values=1),
    "ImageStitch": core(
        {
            "image1": "IMAGE",
            "direction": "COMBO",
            "match_image_size": "BOOLEAN",
            "spacing_width": "INT",
            "spacing_color": "COMBO",
            "image2": "IMAGE",
        },
        ["IMAGE"],
        optional=("image2",),
    ),
    "MaskComposite": core(
        {"destination": "MASK", "source": "MASK", "x": "INT", "y": "INT", "operation": "COMBO"}, ["MASK"]
    ),
    "EmptyAudio": core({"duration": "FLOAT", "sample_rate": "INT", "channels": "INT"}, ["AUDIO"]),
    "AudioConcat": core({"audio1": "AUDIO", "audio2": "AUDIO", "direction": "COMBO"}, ["AUDIO"]),
    "AudioMerge": core({"audio1": "AUDIO", "audio2": "AUDIO", "merge_method": "COMBO"}, ["AUDIO"]),
    "UNETLoader": core({"unet_name": "COMBO", "weight_dtype": "COMBO"}, ["MODEL"]),
    "CLIPLoader": core({"clip_name": "COMBO", "type": "COMBO", "device": "COMBO"}, ["CLIP"], optional=("device",)),
    "VAELoader": core({"vae_name": "COMBO"}, ["VAE"]),
    "ModelSamplingSD3": core({"model": "MODEL", "shift": "FLOAT"}, ["MODEL"]),
    "CLIPTextEncode": core({"text": "STRING", "clip": "CLIP"}, ["CONDITIONING"]),
    "EmptyHunyuanLatentVideo": core(
        {"width": "INT", "height": "INT", "length": "INT", "batch_size": "INT"}, ["LATENT"]
    ),
    "KSampler": core(
        {
            "model": "MODEL",
            "seed": "INT",
            "steps": "INT",
            "cfg": "FLOAT",
            "sampler_name": "COMBO",
            "scheduler": "COMBO",
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "latent_image": "LATENT",
            "denoise": "FLOAT",
        },
        ["LATENT"],
    ),
    "VAEDecode": core({"samples": "LATENT", "vae": "VAE"}, ["IMAGE"]),
}


def all_inputs(info: dict[str, Any]) -> dict[str, tuple[str, dict]]:
    """Inputs of a node in the order of the frontend: required, then optional."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def widget_slots(info: dict[str, Any]) -> list[str | None]:
    """What each of `widgets_values` belongs to; None for buttons and the control that follows a seed."""
    slots: list[str | None] = []
    for name, (kind, options) in all_inputs(info).items():
        if kind in WIDGETS:
            slots += [name, None] if options.get("control_after_generate") else [name]
    return slots + [None] * info.get("hidden_values", 0)


def to_api(graph: dict[str, Any], infos: dict[str, dict]) -> dict[str, Any]:
    """What the frontend would queue for a UI graph."""
    links = {link[0]: link for link in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        if node["type"] in UNSEEN:
            continue
        slots = widget_slots(infos[node["type"]])[: len(node["widgets_values"])]
        values = zip(slots, node["widgets_values"], strict=True)
        inputs: dict[str, Any] = {name: value for name, value in values if name is not None}
        for socket in node["inputs"]:
            if socket["link"] is not None:
                _, source, slot, *_ = links[socket["link"]]
                inputs[socket["name"]] = [str(source), slot]
        order = [name for name in all_inputs(infos[node["type"]]) if name in inputs]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": {name: inputs[name] for name in order}}
    return prompt


def problems_ui(graph: dict[str, Any], infos: dict[str, dict]) -> list[str]:
    """Why the frontend could not load a UI graph; empty when it could."""
    found = []
    nodes = {node["id"]: node for node in graph["nodes"]}
    if graph["version"] != 0.4 or len(nodes) != len(graph["nodes"]):
        found.append("version or node ids")
    if graph["last_node_id"] < max(nodes) or graph["last_link_id"] < max(link[0] for link in graph["links"]):
        found.append("last ids")
    for link, source, slot, target, socket, kind in graph["links"]:
        output, entry = nodes[source]["outputs"][slot], nodes[target]["inputs"][socket]
        if link not in output["links"] or entry["link"] != link:
            found.append(f"link {link} is missing at one end")
        if output["type"] != kind or not accepts(entry["type"], kind):
            found.append(f"link {link}: {output['type']} {kind} {entry['type']}")
    for node in graph["nodes"]:
        found += problems_node(node, infos)
    return found


def accepts(wanted: str, given: str) -> bool:
    """Whether a socket of type `wanted`, perhaps a list of types, takes a link of type `given`."""
    return wanted == "*" or set(given.split(",")) <= set(wanted.split(","))


def problems_node(node: dict[str, Any], infos: dict[str, dict]) -> list[str]:
    """Why one node would not load as it was saved."""
    if node["type"] in UNSEEN:
        return [] if len(node["widgets_values"]) == UNSEEN[node["type"]] else ["note"]
    if node["type"] not in infos:
        return [f"{node['type']} is not registered"]
    info, found = infos[node["type"]], []
    missing = widget_slots(info)[len(node["widgets_values"]) :]  # appended since; the frontend keeps their defaults
    known = len(node["widgets_values"]) <= len(widget_slots(info))
    if not known or not set(missing) <= set(info["input"].get("optional", {})):
        found.append(f"{node['type']}: {len(node['widgets_values'])} values for {widget_slots(info)}")
    saved = [output["type"] for output in node["outputs"]]
    if saved != list(info["output"])[: len(saved)]:  # outputs may be appended, and older graphs lack them
        found.append(f"{node['type']}: outputs")
    for socket in node["inputs"]:
        kind, _ = all_inputs(info).get(socket["name"], (None, None))
        if kind is None or not accepts(kind, socket["type"]) or (kind in WIDGETS) != ("widget" in socket):
            found.append(f"{node['type']}: input {socket['name']}")
    return found


def problems_api(prompt: dict[str, Any], infos: dict[str, dict], files: set[str]) -> list[str]:
    """Why the host would refuse a prompt; empty when it would not. `files`: inputs whose choices are on disk."""
    found = []
    for key, node in prompt.items():
        info = infos[node["class_type"]]
        known, where = all_inputs(info), f"{key} {node['class_type']}"
        if missing := set(info["input"].get("required", {})) - set(node["inputs"]):
            found.append(f"{where}: missing {missing}")
        if unknown := set(node["inputs"]) - set(known):
            found.append(f"{where}: unknown {unknown}")
        for name, value in node["inputs"].items():
            kind, options = known[name]
            if isinstance(value, list):
                given = infos[prompt[value[0]]["class_type"]]["output"][value[1]]
                if not accepts(kind, given):
                    found.append(f"{where}: {name} gets {given}, wants {kind}")
            elif "options" in options and name not in files and value not in options["options"]:
                found.append(f"{where}: {name} = {value!r}")
            elif "min" in options and not options["min"] <= value <= options["max"]:
                found.append(f"{where}: {name} = {value!r} is out of range")
    return found

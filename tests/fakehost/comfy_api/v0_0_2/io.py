"""Schemas, inputs and outputs as ComfyUI 0.3.64 has them; unknown keyword arguments are TypeErrors there and here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from inspect import Parameter, Signature

COMMON = ("id", "display_name", "optional", "tooltip", "lazy")
PARAMETERS = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None) for name in COMMON]


def pruned(values: dict) -> dict:
    return {name: value for name, value in values.items() if value is not None}


class Input:
    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, **options):
        unknown = set(options) - set(self.OPTIONS)
        if unknown:
            raise TypeError(f"{type(self).__qualname__} got an unexpected keyword argument {sorted(unknown)}")
        self.id, self.optional, self.default = id, optional, options.get("default")
        self.min, self.max = options.get("min"), options.get("max")
        self.described = pruned({"display_name": display_name, "tooltip": tooltip, "lazy": lazy, **options})


class Output:
    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
        self.id, self.display_name, self.tooltip, self.is_output_list = id, display_name, tooltip, is_output_list


def kind(name: str, options: tuple[str, ...] = ()) -> type:
    """A type of socket; its Input says in its signature which keyword arguments it takes, as the host's classes do."""
    known = ("default", "socketless", "force_input", *options) if options else ()
    parameters = [*PARAMETERS, *(Parameter(option, Parameter.KEYWORD_ONLY, default=None) for option in known)]
    typed = {"io_type": name, "OPTIONS": known, "__signature__": Signature(parameters)}
    return type(
        name,
        (),
        {
            "io_type": name,
            "Input": type("TypedInput", (Input,), typed),
            "Output": type("TypedOutput", (Output,), {"io_type": name}),
        },
    )


Int = kind("INT", ("min", "max", "step", "control_after_generate", "display_mode"))
Float = kind("FLOAT", ("min", "max", "step", "round", "display_mode"))
Boolean = kind("BOOLEAN", ("label_on", "label_off"))
String = kind("STRING", ("multiline", "placeholder", "dynamic_prompts"))
Combo = kind("COMBO", ("options", "control_after_generate", "upload", "image_folder", "remote"))
Image, Mask, Audio, Video = kind("IMAGE"), kind("MASK"), kind("AUDIO"), kind("VIDEO")


def Custom(io_type: str) -> type:
    return kind(io_type)


class MultiType:
    """A socket that takes several types."""

    class Input(Input):
        OPTIONS = ()

        def __init__(self, id, types, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None):
            super().__init__(id, display_name, optional, tooltip, lazy)
            self.io_type = ",".join(given.io_type for given in types)


@dataclass
class Schema:
    node_id: str
    display_name: str = None
    category: str = "sd"
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    hidden: list = None
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def validate(self) -> None:
        ids = [i.id for i in self.inputs] + [o.id for o in self.outputs if o.id]
        twice = [name for name, count in Counter(ids).items() if count > 1]
        if twice:
            raise ValueError(f"ids must be unique between inputs and outputs, but {twice} are not")


class NodeOutput:
    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution

    @property
    def result(self):
        return self.args or None


class Locked(type):
    def __setattr__(cls, name, value):
        raise AttributeError(f"cannot modify class attribute {name!r} on a locked class")


class ComfyNode:
    FUNCTION = "EXECUTE_NORMALIZED"

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        schema = cls.define_schema()
        schema.validate()
        return schema

    @classmethod
    def EXECUTE_NORMALIZED(cls, **inputs):
        result = cls.execute(**inputs)
        if isinstance(result, NodeOutput):
            return result
        if isinstance(result, tuple):
            return NodeOutput(*result)
        raise TypeError(f"invalid return type from node: {type(result)}")

    @classmethod
    def PREPARE_CLASS_CLONE(cls, hidden_inputs: dict) -> type:
        return Locked(cls.__name__, (cls,), {})

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict:
        schema, inputs = cls.GET_SCHEMA(), {"required": {}}
        for i in schema.inputs:
            inputs.setdefault("optional" if i.optional else "required", {})[i.id] = (i.io_type, i.described)
        return {
            "input": inputs,
            "input_order": {group: list(ids) for group, ids in inputs.items()},
            "output": [o.io_type for o in schema.outputs],
            "output_is_list": [o.is_output_list for o in schema.outputs],
            "output_name": [o.display_name or o.io_type for o in schema.outputs],
            "name": schema.node_id,
            "display_name": schema.display_name,
            "category": schema.category,
            "description": schema.description,
            "output_node": schema.is_output_node,
            "deprecated": schema.is_deprecated,
        }

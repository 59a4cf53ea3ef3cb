import torch


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
        assert isinstance(model, torch.nn.Module)
        model.device = offload_device  # the host writes attributes onto the network
        self.model, self.load_device, self.offload_device = model, load_device, offload_device

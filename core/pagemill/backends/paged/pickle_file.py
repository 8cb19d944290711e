"""One PyTorch .bin file: a pickled dictionary of tensors, read by torch without running the code in it, and mapped.

Files from before 2020 are no zip archives; these can't be mapped, and are read into memory when opened.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pagemill.backends.paged.mapped_file import MappedFile
from pagemill.backends.paged.model_folder import DOWNLOAD_AGAIN, LFS_POINTER, refuse_lfs_pointer
from pagemill.backends.paged.weight_file import DTYPES, TensorEntry
from pagemill.errors import ModelLoadError


class PickleFile:
    """See `WeightFile`."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self.path = path
        self.entries = {name: TensorEntry(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        self._tensors = tensors
        self._mapped = MappedFile(path)

    @classmethod
    def open(cls, path: Path) -> "PickleFile":
        """
        Raises:
            ModelLoadError: the file can't be read, is damaged, or holds anything but tensors of supported types.
        """
        try:
            with path.open("rb") as file:
                refuse_lfs_pointer(path, file.read(len(LFS_POINTER)))
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except OSError as error:
            raise ModelLoadError(f"can't read {path}: {error.strerror or error}") from error
        except ModelLoadError:
            raise
        except Exception as error:  # a damaged pickle is a damaged program: it can fail in any way
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ModelLoadError(f"{path} is damaged, or no file of tensors: {reason}; {DOWNLOAD_AGAIN}") from error
        return cls(path, _check_tensors(path, loaded))

    def load(self, name: str) -> Tensor:
        return self._tensors[name]

    def release(self, name: str) -> None:
        tensor = self._tensors[name]
        if tensor.is_contiguous():
            self._mapped.release(tensor.data_ptr(), tensor.nbytes)

    def close(self) -> None:
        self._tensors = {}


def _check_tensors(path: Path, loaded: object) -> dict[str, Tensor]:
    if not isinstance(loaded, dict):
        raise ModelLoadError(f"{path} holds {type(loaded).__name__}, not a dictionary of tensors")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ModelLoadError(f"{path} holds {type(tensor).__name__} under {name!r}, where a tensor belongs")
        if tensor.dtype not in DTYPES or tensor.layout != torch.strided:
            kind = f"{str(tensor.dtype).removeprefix('torch.')}, {str(tensor.layout).removeprefix('torch.')}"
            raise ModelLoadError(f"the tensor {name} of {path} is {kind}, which is not supported")
    return {name: tensor.detach() for name, tensor in loaded.items()}

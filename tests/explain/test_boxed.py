"""Whose images heat maps may be judged on."""

import pytest

from cxr.explain.boxed import check_start


@pytest.mark.parametrize("start", ["xrv:densenet121-res224-nih", "xrv:densenet121-res224-rsna", "xrv:mine"])
def test_maps_are_not_judged_on_images_that_the_start_has_seen(start):
    with pytest.raises(ValueError, match="trained on images of rsna's patients"):
        check_start(start, "rsna")  # NIH's patients are RSNA's; an unknown name may have seen all


@pytest.mark.parametrize(
    "start", ["none", "imagenet", "w.safetensors", "xrv:densenet121-res224-pc", "xrv:densenet121-res224-mimic_ch"]
)
def test_other_starts_may(start):
    check_start(start, "rsna")

"""pycocotools reads an image list, and downloads the images by its URLs."""

from __future__ import annotations

from pycocotools.coco import COCO

from blobpack.integrations.export import write_export


def test_pycocotools_reads_the_list_and_downloads_each_image(served, tmp_path):
    write_export(served.blob, tmp_path / "images.json", "coco", url=served.url)
    coco = COCO(tmp_path / "images.json")
    assert (len(coco.imgs), coco.anns, coco.cats) == (len(served.images), {}, {})
    for image in coco.loadImgs(coco.getImgIds()):
        member = served.blob.index.get(image["file_name"])
        assert (image["width"], image["height"]) == (member.width, member.height)
        # pycocotools makes no folders
        (tmp_path / "down" / image["file_name"]).parent.mkdir(parents=True, exist_ok=True)
    coco.download(str(tmp_path / "down"))
    for name, payload in served.images.items():
        assert (tmp_path / "down" / name).read_bytes() == payload


def test_results_refer_to_the_ids(served, tmp_path):
    write_export(served.blob, tmp_path / "images.json", "coco")
    coco = COCO(tmp_path / "images.json")
    coco.dataset["categories"] = [{"id": 1, "name": "cat"}]
    coco.createIndex()
    boxes = [
        {"image_id": number, "category_id": 1, "bbox": [1, 1, 4, 4], "score": 0.5}
        for number in coco.getImgIds()
    ]
    assert len(coco.loadRes(boxes).anns) == len(served.images)

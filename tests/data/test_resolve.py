import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patchcore_runtime import images as runtime_images
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from patchcore.data import images
from patchcore.data.resolve import detect, limited, resolve
from patchcore.data.sample import Dataset, Sample, images_in, uniform
from patchcore.errors import DataError, UsageError


def make(*paths):
    """Small image files. Their contents do not matter here."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)


def names(found):
    return [sample.name for sample in found]


# ---- folders


def samples(images):
    """What `fit` learns from."""
    return resolve(images, learning=True).samples


def test_a_folder_holds_good_images_in_order_of_name(tmp_path):
    make(*(tmp_path / name for name in ("b.png", "a.jpg", "c.TIF")))
    (tmp_path / "notes.txt").write_text("not an image")
    found = detect(tmp_path)
    assert names(found.train) == ["a.jpg", "b.png", "c.TIF"]
    assert all(sample.kind == "good" and sample.mask is None for sample in found.train)
    assert found.train[0].image == tmp_path / "a.jpg"
    assert found.test == []
    assert "3 images" in found.description


def test_a_folder_is_searched_with_its_sub_folders(tmp_path):
    make(tmp_path / "z.png", tmp_path / "day 1" / "a.png", tmp_path / "day 1" / "cam" / "a.png")
    assert sorted(names(detect(str(tmp_path)).train)) == ["day 1/a.png", "day 1/cam/a.png", "z.png"]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (["a/1.png", "b/1.png", "b/x/2.png"], "folder, 3 images in 2 sub-folders (a, b) taken as good"),
        (["1.png", "a/1.png"], "folder, 2 images, 1 of them in 1 sub-folder (a), taken as good"),
        (["Good/1.png"], "folder, 1 image in 1 sub-folder (Good) taken as good"),
        (["good/1.png", "good/ok/2.png"], "folder, 2 images in 1 sub-folder (good) taken as good"),
        (["good/1.png", "ok/1.png"], "folder, 2 images in 2 sub-folders (good, ok) taken as good"),
        ([f"{n}/1.png" for n in range(7)], "folder, 7 images in 7 sub-folders (0, 1, 2, 3, 4, ...) taken as good"),
    ],
)
def test_the_description_says_in_which_sub_folders_the_images_are(tmp_path, images, expected):
    make(*(tmp_path / name for name in images))
    found = detect(tmp_path)
    assert found.description == expected
    assert sorted(names(found.train)) == sorted(images)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (
            ["good/1.png", "good/2.png", "bent/1.png"],
            r"folder good, .*\(1 in bent, 2 in good\).*alone, {root}/good\.$",
        ),
        (["OK/1.png", "nok/1.png"], r"sub-folder OK, .*\(1 in OK, 1 in nok\).*alone, {root}/OK\.$"),
        (["good/1.png", "2.png"], r"sub-folder good, .*\(1 in no sub-folder, 1 in good\).*alone, {root}/good\.$"),
        (["Normal/1.png", "abnormal/1.png"], r"sub-folder Normal, .*cannot all be taken as good.*{root}/Normal\.$"),
        (
            ["line 1/good/1.png", "line 1/bent/x/1.png", "line 2/1.png"],
            r"^{root}/line 1 has .*alone, {root}/line 1/good",
        ),
    ],
)
def test_other_images_beside_good_ones_are_not_taken_for_good(tmp_path, images, expected):
    make(*(tmp_path / name for name in images))
    with pytest.raises(DataError, match=expected.format(root=re.escape(str(tmp_path)))):
        detect(tmp_path)
    with pytest.raises(DataError, match="cannot all be taken as good"):
        samples(str(tmp_path))


def test_a_link_to_good_images_beside_others_is_seen(tmp_path):
    make(tmp_path / "elsewhere" / "1.png", tmp_path / "parts" / "bent" / "1.png")
    (tmp_path / "parts" / "good").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"parts has a sub-folder good, and other .* \(1 in bent, 1 in good\)"):
        detect(tmp_path / "parts")


def test_a_test_split_is_not_taken_for_good_and_its_data_set_is_named(hazelnut):
    with pytest.raises(DataError, match=rf"test.good, or {re.escape(str(hazelnut))}, the dataset that"):
        detect(hazelnut / "test")


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "PNG", "Jpg"])
def test_every_format_is_found_by_its_extension(tmp_path, suffix):
    make(tmp_path / f"a.{suffix}")
    assert names(detect(tmp_path).train) == [f"a.{suffix}"]


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "@eaDir", "__MACOSX", "lost+found", "#recycle", "$RECYCLE.BIN", ".Trash-1000"]
)
@pytest.mark.parametrize("root", ["parts", "parts/train/good"])
def test_hidden_files_and_folders_are_left_out_and_said(tmp_path, caplog, name, root):
    make(tmp_path / root / "a.png", tmp_path / root / name / "b.png", tmp_path / root / name / "c.png" / "d.png")
    (tmp_path / root / "._a.png").write_text("what macOS leaves behind")
    (tmp_path / root / "Thumbs.db").write_text("nobody takes that for an image")
    found = detect(tmp_path / "parts")
    assert [Path(one).name for one in names(found.train)] == ["a.png"]
    assert "left out" in caplog.text
    assert f"1 hidden folder ({name})" in caplog.text
    assert "1 hidden file (._a.png)" in caplog.text
    assert "Thumbs.db" not in caplog.text


def test_files_that_are_no_images_by_their_extension_are_counted(tmp_path, caplog):
    make(tmp_path / "a.png", tmp_path / "b.gif", tmp_path / "day" / "c.GIF")
    (tmp_path / "notes.txt").touch()
    assert names(detect(tmp_path).train) == ["a.png"]
    assert "left out 3 files that are no images by their extension (.gif, .txt)" in caplog.text


def test_nothing_is_said_of_a_folder_of_images(hazelnut, caplog):
    detect(hazelnut)
    detect(hazelnut / "train" / "good")
    assert caplog.text == ""


def test_linked_folders_are_searched_once(tmp_path, caplog):
    make(tmp_path / "store" / "1.png", tmp_path / "parts" / "b" / "2.png")
    (tmp_path / "parts" / "day1").symlink_to(tmp_path / "store")
    assert names(detect(tmp_path / "parts").train) == ["b/2.png", "day1/1.png"]
    assert caplog.text == ""
    for name, target in (("a", "parts/b"), ("day0", "store"), ("loop", "parts")):
        (tmp_path / "parts" / name).symlink_to(tmp_path / target)
    (tmp_path / "store" / "up").symlink_to(tmp_path)
    assert names(detect(tmp_path / "parts").train) == ["b/2.png", "day0/1.png"]
    assert "4 links to folders that are searched anyway" in caplog.text


def test_a_link_that_leads_nowhere_is_an_error_when_it_is_read(tmp_path):
    make(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    assert names(detect(tmp_path).train) == ["a.png", "b.png"]


def test_sub_folders_that_a_layout_does_not_search_are_said(tmp_path, caplog):
    mvtec(tmp_path)
    make(tmp_path / "train" / "good" / "more" / "a.png", tmp_path / "validation" / "good" / "b.png")
    assert len(detect(tmp_path).train) == 2
    assert "left out 1 sub-folder (more)" in caplog.text
    assert "not looked at, in no folder of this layout: 2 images in train/good/more, validation/good" in caplog.text


def test_results_of_predict_are_no_images(tmp_path, caplog):
    make(tmp_path / "a.png", tmp_path / "a_overlay.png", tmp_path / "a_map.tiff", tmp_path / "my_overlay.png")
    assert names(detect(tmp_path).train) == ["a.png", "my_overlay.png"]
    assert "2 results of an earlier `predict -o` (a_map.tiff, a_overlay.png)" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path, caplog):
    make(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert names(detect(tmp_path).train) == ["a.png"]
    assert "1 pipe or device (b.png)" in caplog.text


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"holds no images \(\.bmp, \.jpeg, .*\)\."):
        detect(tmp_path)
    with pytest.raises(DataError, match=r"holds no images \(\.bmp, \.jpeg, .*\), nor do its sub-folders\."):
        images_in(tmp_path)


def test_only_the_folder_itself_is_searched_when_asked_and_the_error_says_so(tmp_path):
    make(tmp_path / "deeper" / "a.png")
    example = re.escape(str(tmp_path / "deeper"))
    with pytest.raises(DataError, match=rf"no images .*; its sub-folders, which hold 1, were .*example {example}\."):
        images_in(tmp_path)
    assert images_in(tmp_path, recursive=True) == [tmp_path / "deeper" / "a.png"]


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv"])
def test_a_path_that_is_nothing_is_an_error(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}: expected a folder of images, a dataset root, or a \.csv table"):
        detect(tmp_path / name)


# ---- MVTec AD


def mvtec(root):
    make(
        root / "train" / "good" / "000.png",
        root / "train" / "good" / "001.png",
        root / "test" / "good" / "000.png",
        root / "test" / "crack" / "000.png",
        root / "test" / "crack" / "001.png",
        root / "ground_truth" / "crack" / "000_mask.png",
    )
    return root


def test_the_mvtec_layout(tmp_path):
    found = detect(mvtec(tmp_path / "bottle"))
    assert names(found.train) == ["train/good/000.png", "train/good/001.png"]
    assert [sample.kind for sample in found.train] == ["good", "good"]
    assert [(s.name, s.kind) for s in found.test] == [
        ("test/crack/000.png", "crack"),
        ("test/crack/001.png", "crack"),
        ("test/good/000.png", "good"),
    ]
    assert found.test[0].mask == tmp_path / "bottle" / "ground_truth" / "crack" / "000_mask.png"
    assert found.test[1].mask is None
    assert found.test[2].mask is None
    assert found.description == "MVTec AD layout, 2 good to train on, 1 good and 2 defective to test on"


def test_the_mvtec_layout_with_nothing_to_test_on(tmp_path):
    make(tmp_path / "train" / "good" / "a.png")
    found = detect(tmp_path)
    assert len(found.train) == 1
    assert found.test == []


def test_a_root_of_several_categories_is_an_error_that_names_them(tmp_path):
    mvtec(tmp_path / "bottle")
    mvtec(tmp_path / "cable")
    with pytest.raises(
        DataError, match=r"holds 2 categories \(bottle, cable\); give one of them, for example .*bottle"
    ):
        detect(tmp_path)


# ---- CSV


def table(folder, text, *images):
    make(*(folder / name for name in images))
    path = folder / "parts.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_paths_alone_is_for_training(tmp_path):
    found = detect(table(tmp_path, "path\na.png\nsub/b.png\n"))
    assert names(found.train) == ["a.png", "sub/b.png"]
    assert found.train[1].image == tmp_path / "sub" / "b.png"
    assert found.train[0].kind is None
    assert found.test == []


def test_a_table_with_labels_serves_both_ends(tmp_path):
    found = detect(table(tmp_path, "path,label\na.png,good\nb.png,0\nc.png,scratch\nd.png,1\ne.png,\n"))
    assert names(found.train) == ["a.png", "b.png", "e.png"]
    assert [(s.name, s.kind) for s in found.test] == [
        ("a.png", "good"),
        ("b.png", "good"),
        ("c.png", "scratch"),
        ("d.png", "1"),
    ]
    assert "3 good to train on, 4 labelled to test on" in found.description


def test_marks_that_nobody_sees_do_not_change_a_label(tmp_path):
    found = detect(table(tmp_path, "path,label\na.png,\u200bgood\nb.png,good\ufeff\nc.png,scratch\n"))
    assert [(s.name, s.kind) for s in found.test] == [("a.png", "good"), ("b.png", "good"), ("c.png", "scratch")]


def test_a_table_with_all_columns(tmp_path):
    text = (
        "split,path,mask,label,comment\n"
        "train,a.png,,good,x\n"
        "train,b.png,,scratch,not used to train\n"
        "test,c.png,m/c.png,scratch,\n"
        "test,d.png,,good,\n"
    )
    found = detect(table(tmp_path, text, "m/c.png"))
    assert names(found.train) == ["a.png"]
    assert names(found.test) == ["c.png", "d.png"]
    assert found.test[0].mask == tmp_path / "m" / "c.png"
    assert found.test[1].mask is None


def test_a_table_may_hold_absolute_paths(tmp_path):
    make(tmp_path / "elsewhere" / "a.png")
    found = detect(table(tmp_path / "tables", f"path\n{tmp_path / 'elsewhere' / 'a.png'}\n", "x.png"))
    assert found.train[0].image == tmp_path / "elsewhere" / "a.png"


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "parts.CSV"
    path.write_bytes('\ufeffpath,label\r\n"a, b.png",good\r\nTür.png,Riß\r\n'.encode())
    assert [(s.name, s.kind) for s in detect(path).test] == [("a, b.png", "good"), ("Tür.png", "Riß")]


def test_a_table_without_paths_is_an_error_that_names_its_columns(tmp_path):
    with pytest.raises(DataError, match=r"parts\.csv: the columns are file, label; expected at least `path`"):
        detect(table(tmp_path, "file,label\na.png,good\n"))


def test_an_empty_table_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"parts\.csv: the columns are none; expected at least `path`"):
        detect(table(tmp_path, ""))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_may_be_as_a_spreadsheet_writes_it(tmp_path, delimiter, encoding):
    make(tmp_path / "sub" / "a.png", tmp_path / "m.png")
    rows = [["", " Path ", "LABEL", "Split", "Mask"], ["1", "sub\\a.png ", " Good", " Train ", ""]]
    rows += [["2", '"b, c; d.png"', "Scratch", "TEST", "m.png"], [""] * 5, ["3", "e.png", "OK", "training", "", ""]]
    path = tmp_path / "parts.csv"
    path.write_bytes("\r\n".join(delimiter.join(row) for row in rows).encode(encoding))
    found = detect(path)
    assert [(s.name, s.kind) for s in found.train] == [("sub\\a.png", "good"), ("e.png", "good")]
    assert found.train[0].image.is_file()
    assert [(s.name, s.kind, s.mask) for s in found.test] == [("b, c; d.png", "Scratch", tmp_path / "m.png")]


def test_a_spreadsheet_s_own_remark_on_its_delimiter_is_no_header(tmp_path):
    assert names(detect(table(tmp_path, "sep=;\npath;label\na.png;good\n")).train) == ["a.png"]


@pytest.mark.parametrize(
    "label", ["good", "Good", " ok ", "OK", "okay", "normal", "NORMAL", "pass", "Passed", "0", "0.0", '"0,0"']
)
def test_labels_of_good_parts(tmp_path, label):
    (sample,) = detect(table(tmp_path, f"path,label\na.png,{label}\n")).train
    assert sample.kind == "good"


@pytest.mark.parametrize("label", ["NOK", "ng", "bad", "defect", "Defective", "fail", "anomaly", "scratch", "not ok"])
def test_other_words_are_defects(tmp_path, label):
    found = detect(table(tmp_path, f"path,label\na.png,{label}\n"))
    assert (found.train, [one.kind for one in found.test]) == ([], [label])


@pytest.mark.parametrize(
    "label", ["True", "false", "YES", "n", "nan", "None", "NULL", "N/A", "?", "-", "-1", "0.5", "33%", "no_defect",
              "defect-free", "Positive", "unknown", "clean", "1", "1.0", "2"],
)  # fmt: skip
def test_a_label_that_can_be_read_in_two_ways_is_an_error_that_asks(tmp_path, label):
    with pytest.raises(DataError, match=rf"parts\.csv, line 2: the label is '{re.escape(label)}', .*for a good part"):
        detect(table(tmp_path, f"path,label\na.png,{label}\nb.png,\n"))


def test_a_number_beside_0_or_a_word_for_good_is_a_kind_of_defect(tmp_path):
    for good in ("0", "0.0", "ok"):
        found = detect(table(tmp_path, f"path,label\na.png,1.0\nb.png,{good}\nc.png,2\n"))
        assert [one.kind for one in found.test] == ["1", "good", "2"]


def test_a_row_that_is_there_twice_counts_once_and_is_said(tmp_path, caplog):
    found = detect(table(tmp_path, "path,label\na.png,good\n./a.png,OK\nb.png,good\n"))
    assert names(found.train) == ["a.png", "b.png"]
    assert "1 row of an image that an earlier row has" in caplog.text


@pytest.mark.parametrize("again", ["a.png,scratch,train", "a.png,good,test", "./a.png,,train"])
def test_two_rows_that_contradict_each_other_are_an_error(tmp_path, again):
    with pytest.raises(DataError, match=r"parts\.csv, line 3: .*a\.png is in line 2 too, with other values"):
        detect(table(tmp_path, f"path,label,split\na.png,good,train\n{again}\n"))


@pytest.mark.parametrize("row", ["a, b.png,good", "a.png"])
def test_a_row_of_more_or_fewer_values_than_columns_is_an_error(tmp_path, row):
    with pytest.raises(DataError, match=r"parts\.csv, line 2: \d values? for 2 columns \(path, label\)\. Quote"):
        detect(table(tmp_path, f"path,label\n{row}\n"))


def test_two_columns_of_one_name_are_an_error(tmp_path):
    with pytest.raises(DataError, match=r"parts\.csv: there are two columns 'label'"):
        detect(table(tmp_path, "path,label,Label\na.png,good,bad\n"))


def test_a_row_without_a_split_is_an_error_where_others_have_one(tmp_path):
    with pytest.raises(DataError, match=r"parts\.csv, line 3: the split is ''; expected train or test"):
        detect(table(tmp_path, "path,label,split\na.png,good,train\nb.png,good,\n"))


def test_one_image_is_not_several(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert detect(tmp_path).description == "folder, 1 image taken as good"


def test_an_unknown_split_is_an_error_with_its_line(tmp_path):
    with pytest.raises(DataError, match=r"parts\.csv, line 3: the split is 'val'; expected train or test"):
        detect(table(tmp_path, "path,split\na.png,train\nb.png,val\n"))


def test_a_missing_mask_is_an_error_with_its_line(tmp_path):
    with pytest.raises(DataError, match=r"parts\.csv, line 2: there is no mask .*none\.png"):
        detect(table(tmp_path, "path,mask\na.png,none.png\n"))


@pytest.mark.parametrize("row", ["good", "good,", "good,   "])
def test_a_row_without_a_path_is_an_error_with_its_line(tmp_path, row):
    with pytest.raises(DataError, match=r"parts\.csv, line 3: .*path"):
        detect(table(tmp_path, f"label,path\ngood,a.png\n{row}\n"))


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    text = 'path,label,split\na.png,good,train\n\n\n"b.png","two\nlines",test\nc.png,good,val\n'
    with pytest.raises(DataError, match=r"parts\.csv, line 7: the split is 'val'"):
        detect(table(tmp_path, text))


def test_a_table_in_another_encoding_is_an_error_that_says_so(tmp_path):
    path = tmp_path / "parts.csv"
    path.write_bytes("path,label\nTür.png,good\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"parts\.csv: .*UTF-8"):
        detect(path)


# ---- samples from whatever a caller holds


def test_samples_of_a_path_to_an_image(tmp_path):
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        (sample,) = samples(path)
        assert sample == Sample(str(path), path)


def test_samples_of_a_folder_a_table_and_a_data_set_are_those_to_train_on(tmp_path):
    root = mvtec(tmp_path / "bottle")
    expected = ["train/good/000.png", "train/good/001.png"]
    assert names(samples(root)) == expected
    assert names(samples(str(root))) == expected
    assert names(samples(detect(root))) == expected
    assert names(samples(table(tmp_path, "path,split\na.png,train\nb.png,test\n"))) == ["a.png"]


def test_samples_of_a_list_of_paths(tmp_path):
    found = samples([tmp_path / "b.png", str(tmp_path / "a.png")])
    assert names(found) == [str(tmp_path / "b.png"), str(tmp_path / "a.png")]


def test_samples_of_one_array_or_tensor_or_pillow_image():
    for image in (np.zeros((4, 5, 3)), np.zeros((4, 5)), torch.zeros(3, 4, 5), Image.new("L", (4, 5))):
        (sample,) = samples(image)
        assert sample.image is image


def test_samples_of_a_batch_are_its_images_in_order():
    array = np.arange(3 * 4 * 5 * 3).reshape(3, 4, 5, 3)
    found = list(samples(array))
    assert [sample.name for sample in found] == ["#0", "#1", "#2"]
    assert all(np.array_equal(s.image, a) for s, a in zip(found, array, strict=True))
    tensor = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    found = list(samples(tensor))
    assert all(torch.equal(s.image, t) for s, t in zip(found, tensor, strict=True))


def test_samples_of_a_list_of_arrays_and_batches():
    found = list(samples([np.zeros((4, 5, 3)), np.ones((2, 4, 5, 3)), Image.new("L", (4, 5))]))
    assert names(found) == ["#0", "#1", "#2", "#3"]
    assert [np.asarray(sample.image).shape for sample in found] == [(4, 5, 3)] * 3 + [(5, 4)]


def test_samples_of_a_data_loader():
    data = torch.arange(5 * 3 * 2 * 2).float().view(5, 3, 2, 2)
    plain = list(samples(DataLoader(data, batch_size=2)))
    labelled = list(samples(DataLoader(TensorDataset(data, torch.zeros(5)), batch_size=2)))
    keyed = list(samples(DataLoader([{"image": one, "label": 0} for one in data], batch_size=2)))
    for found in (plain, labelled, keyed):
        assert names(found) == ["#0", "#1", "#2", "#3", "#4"]
        assert all(torch.equal(s.image, one) for s, one in zip(found, data, strict=True))


def test_of_tuples_the_first_and_of_dicts_the_image_is_the_image():
    image = np.zeros((4, 5, 3))
    for item in ((image, 1), [image, 1], {"image": image, "label": 1}):
        (sample,) = samples([item])
        assert sample.image is image


def loader(items, size=8, **options):
    return DataLoader(items, batch_size=size, **options)


PATHS = [f"{number:02}.png" for number in range(12)]
ARRAYS = [np.full((4, 5, 3), number, np.uint8) for number in range(12)]
TENSORS = [torch.full((3, 4, 5), number) for number in range(12)]
LABELLED = {
    "numbers": [0] * 12,
    "words": ["good"] * 12,
    "tensors": [torch.tensor(0)] * 12,
    "dicts": [{"label": 0}] * 12,
}


@pytest.mark.parametrize("images", [PATHS, TENSORS], ids=["paths", "tensors"])
@pytest.mark.parametrize("labels", LABELLED)
@pytest.mark.parametrize("collate", [None, list, tuple, lambda batch: tuple(zip(*batch, strict=True))],
                         ids=["default", "list", "tuple", "columns"])  # fmt: skip
@pytest.mark.parametrize("size", [8, 2, 1])
def test_all_images_of_a_batch_with_labels_are_used(images, labels, collate, size):
    pairs = list(zip(images, LABELLED[labels], strict=True))
    assert_same(samples(loader(pairs, size, collate_fn=collate)), images)


@pytest.mark.parametrize("images", [PATHS, TENSORS, ARRAYS], ids=["paths", "tensors", "arrays"])
@pytest.mark.parametrize("collate", [None, list, tuple, lambda batch: {"image": batch, "label": [0] * len(batch)}],
                         ids=["default", "list", "tuple", "dict"])  # fmt: skip
@pytest.mark.parametrize("size", [8, 2, 1])
def test_all_images_of_a_batch_are_used(images, collate, size):
    if images is ARRAYS and collate is None:
        images = TENSORS
    assert_same(samples(loader(images, size, collate_fn=collate)), images)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ([PATHS[:6], PATHS[6:]], PATHS),
        ([tuple(PATHS[:6]), tuple(PATHS[6:])], PATHS),
        (np.array(PATHS), PATHS),
        ([np.array(PATHS)], PATHS),
        (np.array([Path(one) for one in PATHS], dtype=object), PATHS),
        ((PATHS[:6] for _ in range(2)), PATHS[:6] * 2),
        ([(one for one in PATHS[:3]), iter(PATHS[3:])], PATHS),
        ([["0001", "0002"]], ["0001", "0002"]),
        ([[("0001", "0002"), torch.zeros(2)]], ["0001", "0002"]),
        ([[[one] for one in TENSORS[:2]]], TENSORS[:2]),
        ([[np.stack(ARRAYS), PATHS, [0] * 12]], ARRAYS),
        ([[torch.stack(TENSORS), torch.zeros(12, 4)]], TENSORS),
        ([(ARRAYS[0], "a.png"), (ARRAYS[1], "b.png")], ARRAYS[:2]),
        ([(0, ARRAYS[0]), ("good", ARRAYS[1])], ARRAYS[:2]),
        ([[{"image": one} for one in TENSORS]], TENSORS),
        ({"image": np.stack(ARRAYS), "mask": np.zeros((12, 4, 5))}, ARRAYS),
        ([[ARRAYS[0], ARRAYS[1][..., :1], ARRAYS[2]]], [ARRAYS[0], ARRAYS[1][..., :1], ARRAYS[2]]),
    ],
    ids=range(17),
)
def test_images_in_other_shapes_are_all_used(given_, expected):
    assert_same(samples(given_), expected)


def assert_same(found, images):
    found = [sample.image for sample in found]
    assert len(found) == len(images)
    for one, image in zip(found, images, strict=True):
        assert type(image)(one) == image if isinstance(image, str) else np.array_equal(one, image)


@pytest.mark.parametrize(
    "batch",
    [
        [torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)],
        [torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4)],
        [("1.png", "2.png"), ("1_mask.png", "2_mask.png")],
        [("1.png",), ("1_mask.png",)],
        (np.zeros((4, 4, 3)), np.zeros((4, 4))),
        (np.zeros((4, 4, 3)), np.zeros((4, 4)), 0),
        ("a.png", 0, "a_mask.png"),
        [np.zeros((4, 4, 3)), "a.png"],
        [0, 1, 2],
        [[0.5, 0.5], [0.1, 0.2]],
    ],
    ids=range(10),
)
def test_a_batch_whose_images_cannot_be_told_is_an_error_that_says_how_to_give_them(batch):
    with pytest.raises(UsageError, match=r"a batch of .*(Give images alone|give an array)"):
        list(samples([batch]))


def test_a_dict_without_an_image_is_an_error_that_names_its_keys():
    with pytest.raises(UsageError, match="img"):
        list(samples([{"img": np.zeros((4, 5, 3))}]))


def test_samples_of_samples_are_those_samples():
    given_ = [Sample("x", np.zeros((4, 5)), "scratch"), Sample("y", np.zeros((4, 5)))]
    assert list(samples(given_)) == given_


def test_samples_of_a_generator_are_taken_one_by_one():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield np.zeros((4, 5, 3))

    found = iter(samples(endless()))
    assert [next(found).name, next(found).name] == ["#0", "#1"]
    assert len(taken) == 2


def test_paths_and_files_in_all_their_forms(tmp_path):
    make(tmp_path / "a.png")
    path, content = tmp_path / "a.png", (tmp_path / "a.png").read_bytes()
    (entry,) = os.scandir(tmp_path)
    for one in (os.fsencode(path), entry):
        given_ = resolve(one)
        assert (given_.single, names(given_.samples)) == (True, [str(path)])
        assert names(samples([one, one])) == [str(path)] * 2
    with path.open("rb") as file:
        for one in (content, bytearray(content), memoryview(content), io.BytesIO(content), file):
            given_ = resolve(one)
            assert (given_.single, [sample.image for sample in given_.samples]) == (True, [content])
            assert [(sample.name, sample.image) for sample in samples([one])] == [("#0", content)]
    assert names(resolve(os.fsencode(tmp_path)).samples) == ["a.png"]


@pytest.mark.parametrize(("nothing", "kind"), [(3, "int"), (None, "NoneType"), (object(), "object")])
def test_something_else_is_an_error_that_names_what_is_taken(nothing, kind):
    with pytest.raises(UsageError, match=rf"got {kind}; expected a path, an image, a list or generator.*DataLoader"):
        samples(nothing)


def test_whether_it_is_a_single_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    for one in (tmp_path / "a.png", "none.png", np.zeros((4, 5)), np.zeros((4, 5, 3)), torch.zeros(3, 4, 5)):
        assert resolve(one).single
    assert resolve(Image.new("L", (4, 5))).single
    for several in (tmp_path, str(tmp_path), np.zeros((1, 4, 5, 3)), torch.zeros(1, 3, 4, 5), [np.zeros((4, 5))]):
        assert not resolve(several).single
    assert not resolve(Dataset("empty")).single


# ---- one rule for learning and looking


def test_a_folder_stands_for_all_its_images_sub_folders_included(tmp_path):
    for name in ("a.png", "deep/er/b.png", "deep/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    expected = ["a.png", "deep/c.png", "deep/er/b.png"]
    assert names(resolve(tmp_path, learning=True).samples) == names(resolve(tmp_path).samples) == expected


@pytest.mark.parametrize("name", ["bad", "NG", "defect", "anomaly"])
def test_a_folder_that_is_called_bad_is_not_taken_for_good(tmp_path, name):
    make(tmp_path / "day 1" / "a.png", tmp_path / name / "b.png")
    with pytest.raises(DataError, match=rf"sub-folder {name} \(.*\): by its name its images are not good"):
        samples(tmp_path)
    assert len(list(resolve(tmp_path).samples)) == 2
    make(tmp_path / "good" / name / "c.png")  # a kind of good ones
    assert names(samples(tmp_path / "good")) == [f"{name}/c.png"]


@pytest.mark.parametrize(
    "batches",
    [
        [("a.png", "good"), ("b.png", "good"), ("c.png", "scratch")],
        [("a.png", 0), ("b.png", 1), ("c.png", 0)],
        [(torch.zeros(3, 3, 4, 4), torch.tensor([0, 1, 0]))],
        [{"image": ["a.png", "b.png", "c.png"], "label": [0, 1, 0]}],
    ],
)
def test_labels_beside_images_that_are_learned_are_said_not_to_be_read(batches, caplog):
    assert len(list(samples(batches))) == 3
    assert "come with labels: " in caplog.text
    assert "(2)" in caplog.text
    assert "(1)" in caplog.text
    caplog.clear()
    assert len(list(resolve(batches).samples)) == 3
    assert caplog.text == ""


@pytest.mark.parametrize(
    "batches", [[("a.png", 0), ("b.png", 0)], [("a.png", 0), ("b.png", 1)], [("a.png", "one")] * 2]
)
def test_equal_labels_and_numbers_of_images_are_not_spoken_of(batches, caplog):
    assert len(list(samples(batches))) == 2
    assert caplog.text == ""


def test_a_folder_with_defects_can_be_looked_at_and_not_learned_from(tmp_path):
    for name in ("good/a.png", "scratch/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    assert names(resolve(tmp_path).samples) == ["good/a.png", "scratch/b.png"]
    with pytest.raises(DataError, match="cannot all be taken as good"):
        resolve(tmp_path, learning=True)


def test_of_a_table_every_row_is_looked_at_and_good_training_rows_are_learned(tmp_path):
    rows = "path,label,split\na.png,good,train\nb.png,scratch,train\nc.png,good,test\nd.png,scratch,test\n"
    path = table(tmp_path, rows)
    assert names(resolve(path, learning=True).samples) == ["a.png"]
    assert sorted(names(resolve(path).samples)) == ["a.png", "b.png", "c.png", "d.png"]
    # Without a column of splits a good row is both; it is looked at once.
    path = table(tmp_path, "path,label\na.png,good\nb.png,scratch\n")
    assert names(resolve(path, learning=True).samples) == ["a.png"]
    assert names(resolve(path).samples) == ["a.png", "b.png"]


def test_of_a_dataset_test_images_are_looked_at_too(hazelnut):
    learned, seen = resolve(hazelnut, learning=True).samples, resolve(hazelnut).samples
    assert {one.name.split("/")[0] for one in learned} == {"train"}
    assert {one.name.split("/")[0] for one in seen} == {"train", "test"}  # no masks


# ---- limits and draws


def some(n):
    return [Sample(str(index), Path(str(index))) for index in range(n)]


@settings(max_examples=50)
@given(n=st.integers(0, 60), limit=st.integers(1, 80), seed=st.integers(0, 100))
def test_a_limit_draws_some_and_keeps_their_order(n, limit, seed):
    found = some(n)
    kept = list(limited(found, limit, seed))
    assert len(kept) == min(n, limit)
    positions = [int(sample.name) for sample in kept]
    assert positions == sorted(set(positions))
    assert list(limited(iter(found), limit, seed)) == kept


def test_a_limit_draws_from_all_and_by_the_seed():
    drawn = [names(limited(some(100), 10, seed)) for seed in range(30)]
    assert drawn[0] != [str(index) for index in range(10)]
    assert len({tuple(one) for one in drawn}) == 30
    # 300 draws from 100: nearly every image has had its chance.
    assert len({name for one in drawn for name in one}) > 85


def test_no_limit_keeps_everything_as_it_is():
    found = some(5)
    assert limited(found, None, 0) is found


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_an_error(limit):
    with pytest.raises(UsageError, match=rf"limit is {limit}; it must be a whole number, and at least 1"):
        limited(some(5), limit, 0)


def test_draws_are_uniform():
    values = np.array([uniform(0, index, "calibration") for index in range(20_000)])
    assert values.min() >= 0
    assert values.max() < 1
    # The mean of 20,000 has a standard deviation of 0.002; a tenth holds 2000 ± 42.
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    assert np.histogram(values, 10, (0, 1))[0] == pytest.approx(np.full(10, 2000), abs=200)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


def test_a_draw_depends_on_each_of_its_arguments_and_on_nothing_else():
    first = uniform(1, 2, "calibration")
    assert uniform(1, 2, "calibration") == first
    assert len({first, uniform(2, 2, "calibration"), uniform(1, 3, "calibration"), uniform(1, 2, "limit")}) == 4
    # Seed 1, index 23 is not seed 12, index 3.
    assert uniform(1, 23, "limit") != uniform(12, 3, "limit")


def test_a_misspelt_column_is_an_error_with_the_name_that_was_meant(tmp_path):
    with pytest.raises(DataError, match=r"there is a column 'lable'\. Did you mean 'label'\?"):
        detect(table(tmp_path, "path,lable\na.png,good\n"))


def test_training_rows_with_another_label_are_counted_in_the_description(tmp_path):
    found = detect(table(tmp_path, "path,label,split\na.png,good,train\nb.png,goood,train\n"))
    assert len(found.train) == 1
    assert "1 training row left out for a label other than 'good'" in found.description


def test_a_link_that_leads_nowhere_is_named_and_so_is_where_it_leads(tmp_path, caplog):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder").symlink_to(tmp_path / "no folder")
    (tmp_path / "LICENCE").touch()
    dataset = detect(tmp_path)
    assert [sample.name for sample in dataset.train] == ["a.png", "b.png"]
    assert "left out 1 file that is no image by its extension (LICENCE), 1 link that leads nowhere (folder)." in (
        caplog.text
    )
    for read in (images.read, runtime_images.read):
        with pytest.raises(Exception, match=r"b: a link to .*gone\.png, where nothing is"):
            read(tmp_path / "b.png", "b")

"""Small made trees of the data sets in the registry: the published headers and traps, drawn images."""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.pictures import dicom, encoded, smooth

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
NIH_ROWS = [
    "00000001_000.png,Cardiomegaly|Infiltration,0,1,057,M,PA,2682,2749,0.143,0.143",
    "00000001_001.png,No Finding,1,1,058Y,M,PA,2894,2729,0.143,0.143",
    "00000002_000.png,Pleural_Thickening|Effusion,0,2,414,F,AP,2500,2048,0.168,0.168",
    "00000003_000.png,Pneumonia,0,3,30,F,AP,2500,2048,0.168,0.168",
]
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
PADCHEST_HEADER = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,Pediatric,ReportID,Report,MethodLabel,Labels"
)
VINDR_TRAIN = [
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding",
]  # fmt: skip
MIMIC_LABELS = [
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
]  # fmt: skip


def put(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def png(seed: int = 0, deep: bool = False) -> bytes:
    pixels = smooth(40, 32, seed)
    return encoded(Image.fromarray(pixels.astype(np.uint16) * 200) if deep else Image.fromarray(pixels))


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def nih(root: Path, rows=NIH_ROWS, **more: str) -> Path:
    names = [row.split(",")[0] for row in rows]
    folders = [f"images_{1 + k % 12:03d}/images" for k in range(len(names))]
    images = {f"{folder}/{name}": png(k) for k, (folder, name) in enumerate(zip(folders, names, strict=True))}
    boxes = [BOX_HEADER, f"{names[0]},Infiltrate,10.5,20,30,40.25,,,", f"{names[0]},Cardiomegaly,1,2,3,4,,,"]
    tables = {"Data_Entry_2017_v2020.csv": lines(NIH_HEADER, *rows), "BBox_List_2017.csv": lines(*boxes)}
    tables["train_val_list.txt"] = "\r\n".join(names[:2]) + "\r\n"
    tables["test_list.txt"] = lines(*names[2:])
    return put(root, images | tables | more)


def nih_experts(root: Path) -> Path:
    columns = "Fracture,Pneumothorax,Airspace opacity,Nodule or mass,Set Id"
    head = f"{NIH_HEADER},{columns}"
    extra = {
        "four_findings_expert_labels/test_labels.csv": lines(head, f"{NIH_ROWS[2]},NO,YES,NO,NO,test"),
        "four_findings_expert_labels/validation_labels.csv": lines(head, f"{NIH_ROWS[0]},YES,NO,NO,YES,validation"),
        "all_findings_expert_labels/test_labels.csv": lines("Image Index,Patient ID,Abnormal", "x,1,YES"),
    }
    return nih(root, **extra)


def mimic(root: Path, packed: bool = True, **more: str) -> Path:
    metadata = lines(
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
        "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning",
        "aa-1,10000032,50000001,CHEST (PA AND LAT),PA,3056,2544,21800506,213014.531,CHEST,postero-anterior,Erect",
        "aa-2,10000032,50000001,CHEST (PA AND LAT),LATERAL,3056,2544,21800506,213014.531,CHEST,lateral,Erect",
        "bb-1,11000033,50000002,CHEST,,2000,2000,21900101,1.0,CHEST,antero-posterior,",
        "bb-2,11000033,50000002,CHEST,SWIMMERS,2000,2000,21900101,1.0,CHEST,,",
        "cc-1,12000034,50000003,CHEST,AP,2000,2000,22000101,1.0,CHEST,antero-posterior,",
    )
    parts = {"aa-1": "train", "aa-2": "train", "bb-1": "validate", "bb-2": "validate", "cc-1": "test"}
    split = lines("dicom_id,study_id,subject_id,split", *(f"{image},0,0,{part}" for image, part in parts.items()))
    one = ["1.0" if name == "Edema" else "0.0" if name == "Pneumonia" else "" for name in MIMIC_LABELS]
    two = ["-1.0" if name == "Edema" else "" for name in MIMIC_LABELS]
    head = ",".join(["subject_id,study_id", *MIMIC_LABELS])
    labels = lines(head, ",".join(["10000032,50000001", *one]), ",".join(["11000033,50000002", *two]))
    negbio = lines(head, ",".join(["10000032,50000001", *two]), ",".join(["11000033,50000002", *one]))
    tables = {"metadata": metadata, "split": split, "chexpert": labels, "negbio": negbio}
    files: dict[str, str | bytes] = {}
    for name, text in tables.items():
        file = f"mimic-cxr-2.0.0-{name}.csv"
        files |= {f"{file}.gz": gzip.compress(text.encode(), mtime=0)} if packed else {file: text}
    for image, subject, study in (("aa-1", "10000032", 1), ("aa-2", "10000032", 1), ("bb-1", "11000033", 2)):
        files[f"files/p{subject[:2]}/p{subject}/s5000000{study}/{image}.jpg"] = png()
    return put(root, files | more)


def padchest(root: Path) -> Path:
    def row(image, folder, projection, labels, sex="F", birth="1930.0"):
        report = '"sin cambios, ""igual"""'
        person = f"st-{image},pt-{image[0]},{birth},{sex}"
        return f'0,{image},{folder},20150212,{person},PA,{projection},m,No,1,{report},RNN,"{labels}"'

    rows = [
        row("a1.png", 0, "PA", "['laminar atelectasis', ' pneumonia', '']"),
        row("a2.png", 0, "L", "['normal']", sex="M"),
        row("b1.png", 54, "AP_horizontal", "['infiltrates', 'NSG tube']", sex="O", birth=""),
        row("c1.png", 1, "COSTAL", "['rib fracture']"),
        row("d1.png", 1, "PA", "['exclude', 'pneumonia']"),
        row("e1.png", 1, "PA", "nan"),
        row("f1.png", 1, "PA", "['suboptimal study']"),
    ]
    table = gzip.compress(lines(PADCHEST_HEADER, *rows).encode(), mtime=0)
    images = {"0/a1.png": png(1, deep=True), "0/a2.png": png(2, deep=True), "54/b1.png": png(3, deep=True)}
    return put(root, {"PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz": table} | images)


def xray_file(age: str = "045Y") -> bytes:
    return dicom((smooth(48, 40).astype(np.uint16) * 16), PatientAge=age, PatientSex="M", PatientName="DOE^PLANTED")


def vindr(root: Path) -> Path:
    def row(image, reader, *present):
        head = [image, reader] if reader else [image]
        return ",".join([*head, *("1" if name in present else "0" for name in VINDR_TRAIN)])

    train = [",".join(["image_id,rad_id", *VINDR_TRAIN])]
    train += [row("im1", "R1", "Cardiomegaly", "Nodule/Mass"), row("im1", "R2", "Cardiomegaly"), row("im1", "R3")]
    train += [row("im2", f"R{k}", "No finding") for k in (1, 2, 3)]
    test = [",".join(["image_id", *("Other disease" if n == "Other diseases" else n for n in VINDR_TRAIN)])]
    test += [row("im3", None, "Other diseases", "Lung Opacity")]
    boxes = [
        "image_id,rad_id,class_name,x_min,y_min,x_max,y_max",
        "im1,R1,Cardiomegaly,2,3,12.5,23",
        "im2,R1,No finding,,,,",
    ]
    files = {"annotations/image_labels_train.csv": lines(*train), "annotations/image_labels_test.csv": lines(*test)}
    files["annotations/annotations_train.csv"] = lines(*boxes)
    images = {"train/im1.dicom": xray_file(), "train/im2.dicom": xray_file("000Y"), "test/im3.dicom": xray_file("")}
    return put(root, files | images)


def kaggle_vindr(root: Path) -> Path:
    rows = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    rows += [f"im1,Cardiomegaly,3,R{k},1,2,30,40" for k in (8, 9)]
    rows += ["im1,Nodule/Mass,8,R8,5,5,9,9", "im1,Nodule/Mass,8,R8,15,15,19,19", "im1,No finding,14,R10,,,,"]
    return put(root, {"train.csv": lines(*rows), "train/im1.dicom": xray_file()})

"""The format `blobpack` of Pixano 0.8: its importer for image folders in blobs.

Strategy: the analysis reads only the index and the metadata. It makes every row without its image, and so finds what the
import would refuse. The import reads images in the order of the records, some of them ahead. Ids are made from the names of
images. So importing a blob again in mode "add" changes nothing, and continues an import that was interrupted.
"""

from __future__ import annotations

from base64 import b64encode
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from pixano.datasets.io import (
    BatchBundle,
    Capabilities,
    DataFormat,
    DatasetImporter,
    ImportPlan,
    ImportSpec,
    PixanoDataError,
    Provenance,
    SamplePreview,
    SpecValidationError,
    resolve_dataset_info,
    stable_id,
)

from blobpack.integrations.pixano import import_source
from blobpack.integrations.pixano.image_facts import (
    has_facts,
    preview_of,
    with_payloads,
)
from blobpack.integrations.pixano.import_source import BlobOptions, opened_folder
from blobpack.integrations.pixano.inferred_schema import infer_schema
from blobpack.integrations.pixano.record_rows import RECORDS, RecordRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pixano.datasets import DatasetInfo
    from pixano.datasets.io import AnalyzeLimits, Cursor, DetectResult, SourceRef

    from blobpack.integrations.pixano.blob_folder import BlobFolder, FolderRecord, Problem
    from blobpack.model import Member

# of the rows that an import makes, not of blobpack
VERSION = "1.0.0"


class StableIds:
    """Makes ids of the names of images, as Pixano's own importers make them of file names."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def record(self, record: FolderRecord) -> str:
        """Return the id of a record."""
        names = [
            part for view in sorted(record.images) for part in (view, record.images[view].name)
        ]
        return str(stable_id(self._namespace, record.split, *names))

    def view(self, record_id: str, view: str, member: Member) -> str:
        """Return the id of an image."""
        return str(stable_id(record_id, "view", view))

    def below(self, owner: str, kind: str, number: int) -> str:
        """Return the id of an object of a record, or of an annotation of an object."""
        return str(stable_id(owner, kind, number))


class BlobImporter(DatasetImporter):  # type: ignore[misc]  # Pixano is missing where types are checked
    """Imports an image folder in a blob into a dataset of Pixano 0.8.

    The source is a blob, a collection, or a folder that holds them; the option `blob` names one elsewhere, also in S3 or on
    a web server. Options: see BlobOptions. With the media mode "uri", the images stay in the blob: `uri_prefix` is the URL of
    the blob at `blobpack serve`. If the spec declares no schema, it is made of the metadata.
    """

    format_name: ClassVar[str] = "blobpack"
    importer_version: ClassVar[str] = VERSION
    supports_resume: ClassVar[bool] = True
    deterministic_ids: ClassVar[bool] = True

    def __init__(self) -> None:
        self._schemas: dict[str, dict[str, Any]] = {}

    def probe(self, source: SourceRef) -> DetectResult | None:
        """Return how sure it is that a source is a blob, a collection, or a folder of blobs."""
        return import_source.detect(source)

    def source_fingerprint(self, source: SourceRef, spec: ImportSpec) -> str:
        """Return a digest of the state of the blobs and of the metadata."""
        with opened_folder(source, spec) as folder:
            return import_source.fingerprint(folder)

    def resolve_info(self, spec: ImportSpec, source: SourceRef | None = None) -> DatasetInfo:
        """Return the schema that the spec declares, or else one that fits the metadata."""
        payload = spec.model_dump(mode="json", exclude_none=True, by_alias=True)
        dataset = payload.setdefault("dataset", {})
        if dataset.get("workspace", "undefined") == "undefined":
            dataset["workspace"] = "image"
        if source is not None and spec.schema_ is None and spec.schema_manifest is None:
            with opened_folder(source, spec) as folder:
                payload["schema"] = self._inferred(folder)
        info = resolve_dataset_info(ImportSpec.model_validate(payload))
        if not info.name and source is not None:
            info.name = import_source.dataset_name(source, spec)
        return info

    def analyze(self, source: SourceRef, spec: ImportSpec, limits: AnalyzeLimits) -> ImportPlan:
        """Make every row without its image, and return what would be imported, and all problems."""
        plan = ImportPlan(format=self.format_name, importer_version=self.importer_version)
        try:
            with opened_folder(source, spec) as folder:
                self._analyze(folder, source, spec, limits, plan)
        except PixanoDataError as exc:
            plan.report.add(
                "invalid_source", Provenance(file=source.location()), suggestion=str(exc)
            )
        return plan

    def iter_batches(
        self,
        source: SourceRef,
        spec: ImportSpec,
        plan: ImportPlan,
        cursor: Cursor | None = None,
    ) -> Iterator[BatchBundle]:
        """Yield one batch for each record, behind those that the cursor counts."""
        first = int((cursor or {}).get("records", 0))
        with opened_folder(source, spec) as folder:
            rows = self._rows(source, spec)
            records = islice(folder.records(rows.tables), first, None)
            has_previews = BlobOptions.of(spec).previews
            reads = spec.media.mode == "embed" or has_previews or not has_facts(folder.reader)
            pairs = (
                with_payloads(folder.reader, records)
                if reads
                else ((record, {}) for record in records)
            )
            for number, (record, payloads) in enumerate(pairs, start=first + 1):
                yield BatchBundle(
                    tables=rows.rows(record, payloads),
                    cursor={"records": number},
                    provenance=Provenance(file=folder.reader.url, record_key=record.where),
                )

    def _inferred(self, folder: BlobFolder) -> dict[str, Any]:
        # an import asks for the schema several times, and inferring it reads all metadata
        key = import_source.fingerprint(folder)
        if key not in self._schemas:
            self._schemas[key] = infer_schema(folder)
        return self._schemas[key]

    def _rows(self, source: SourceRef, spec: ImportSpec) -> RecordRows:
        is_embedded = spec.media.mode == "embed"
        if not is_embedded and not spec.media.uri_prefix:
            raise SpecValidationError(
                "The media mode 'uri' needs media.uri_prefix: the URL of the blob at a server, such as "
                "http://127.0.0.1:8000/b/NAME for `blobpack serve NAME.tar`."
            )
        return RecordRows(
            self.resolve_info(spec, source),
            StableIds(self.effective_namespace(spec, source)),
            url_prefix=None if is_embedded else spec.media.uri_prefix,
            # Pixano makes those of the images that it stores
            previews=not is_embedded and BlobOptions.of(spec).previews,
            source={"source_type": "ground_truth", "source_name": "import"},
        )

    def _analyze(
        self,
        folder: BlobFolder,
        source: SourceRef,
        spec: ImportSpec,
        limits: AnalyzeLimits,
        plan: ImportPlan,
    ) -> None:
        rows = self._rows(source, spec)

        def report(problem: Problem) -> None:
            where = Provenance(file=problem.file, line=problem.line)
            plan.report.add("invalid_line", where, suggestion=problem.text)

        media_bytes = count = 0
        for record in folder.records(rows.tables, report):
            if limits.max_lines is not None and count >= limits.max_lines:
                plan.totals.estimated = True
                break
            count += 1
            plan.splits[record.split] = (plan.splits.get(record.split) or 0) + 1
            media_bytes += sum(member.size for member in record.images.values())
            try:
                made = rows.rows(record, {})
            # of Pixano's schemas (pydantic), such as a box outside of its image; or a FormatError
            except ValueError as exc:
                plan.report.add(
                    "invalid_record", Provenance(record_key=record.where), suggestion=str(exc)
                )
                continue
            if len(plan.previews) < limits.max_previews:
                plan.previews.append(self._preview(folder, record, made))
        plan.totals.records, plan.totals.media_bytes = count, media_bytes

    def _preview(
        self, folder: BlobFolder, record: FolderRecord, rows: Mapping[str, list[Any]]
    ) -> SamplePreview:
        shown = {**record.line.attrs, **record.line.images, "id": rows[RECORDS][0].id}
        thumbnails = {
            view: f"data:image/jpeg;base64,{b64encode(small).decode()}"
            for view, member in record.images.items()
            if (small := preview_of(folder.reader.read(member)))
        }
        return SamplePreview(record={"split": record.split, **shown}, thumbnails=thumbnails)


BLOBPACK = DataFormat(
    name=BlobImporter.format_name,
    title="Image folder in a blob",
    importer_cls=BlobImporter,
    params_model=BlobOptions,
    capabilities=Capabilities(
        media_kinds=frozenset({"image"}),
        annotation_kinds=frozenset({"bbox", "mask", "keypoints", "multi_path", "classification"}),
        source_kinds=frozenset({"local_dir", "local_file"}),
        supports_resume=True,
        deterministic_ids=True,
    ),
    detect=import_source.detect,
)

"""A server that speaks the XML API of Google Cloud Storage as far as a store of backups needs it, for tests.

    python3 gcs_server.py BUCKET [--token TOKEN] [--page-size 1000]

Prints the port that it listens on, on the loopback, and serves until its standard input ends. Objects live in memory.

`PUT /BUCKET?rights=writer` takes from everybody what Google's roles `storage.objectCreator` and `storage.objectViewer` do not allow:
to delete an object, and to replace one, which there takes the right to delete as well; `?rights=all` gives it back.

It keeps what the real one promises: every object has a generation and a metageneration, `x-goog-if-generation-match` and its
kin are answered with 412, uploads in parts become an object at their end and take no condition, a copy is one step and takes
conditions, lists are in the order of the keys' bytes, with pages and delimiters, ranges that begin behind the end are answered
with 416, `Content-MD5` and `x-goog-hash` of a request are checked, and errors carry their codes.
"""

import argparse
import base64
import hashlib
import re
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape


def crc32c_table():
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        yield number


TABLE = tuple(crc32c_table())
# A checksum in Python takes a second for two megabytes: larger objects have their MD5 alone, as composite ones have their CRC.
LARGEST_CRC = 64 << 10


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return (value ^ 0xFFFFFFFF).to_bytes(4, "big")


def base64_text(data):
    return base64.b64encode(data).decode()


@dataclass
class Stored:
    """An object."""

    data: bytes
    generation: int
    metadata: dict
    content_type: str
    storage_class: str
    modified: float = field(default_factory=time.time)
    is_composite: bool = False

    @property
    def etag(self):
        return f'"{hashlib.md5(self.data).hexdigest()}"'

    def headers(self):
        sums = [] if self.is_composite else [f"md5={base64_text(hashlib.md5(self.data).digest())}"]
        if len(self.data) <= LARGEST_CRC:
            sums.insert(0, f"crc32c={base64_text(crc32c(self.data))}")
        headers = {
            "ETag": self.etag,
            "Last-Modified": formatdate(self.modified, usegmt=True),
            "Content-Type": self.content_type,
            "Accept-Ranges": "bytes",
            "x-goog-generation": str(self.generation),
            "x-goog-metageneration": "1",
            "x-goog-storage-class": self.storage_class,
            "x-goog-stored-content-length": str(len(self.data)),
        }
        if sums:
            headers["x-goog-hash"] = ",".join(sums)
        headers.update({f"x-goog-meta-{name}": value for name, value in self.metadata.items()})
        return headers


@dataclass
class Parts:
    """An upload in parts that has not ended."""

    key: str
    metadata: dict
    content_type: str
    storage_class: str
    parts: dict = field(default_factory=dict)
    begun: float = field(default_factory=time.time)
    #: When each part came.
    sent: dict = field(default_factory=dict)


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status, code, message, headers=None):
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}


class Bucket:
    """What the server keeps. Every method is one step."""

    def __init__(self, name):
        self.name = name
        self.lock = threading.Lock()
        self.objects = {}
        self.uploads = {}
        self.generation = time.time_ns() // 1000
        self.may_delete = True

    def find(self, key):
        with self.lock:
            stored = self.objects.get(key)
        if stored is None:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        return stored

    def put(self, key, stored, conditions):
        with self.lock:
            # Before any condition is looked at: the harder of the two orders for a client.
            if key in self.objects:
                self.must_be_allowed()
            self.check(key, conditions)
            self.generation += 1
            stored.generation = self.generation
            self.objects[key] = stored
        return stored

    def must_be_allowed(self):
        if not self.may_delete:
            message = "The caller does not have storage.objects.delete access to the Google Cloud Storage object."
            raise Refused(403, "AccessDenied", message)

    def delete(self, key, conditions):
        with self.lock:
            self.must_be_allowed()
            if key not in self.objects:
                raise Refused(404, "NoSuchKey", "The specified key does not exist.")
            self.check(key, conditions)
            del self.objects[key]

    def check(self, key, conditions):
        current = self.objects.get(key)
        generation = current.generation if current else 0
        etag = current.etag if current else None
        holds = {
            "x-goog-if-generation-match": lambda value: int(value) == generation,
            "x-goog-if-generation-not-match": lambda value: int(value) != generation,
            "if-match": lambda value: etag is not None and value in ("*", etag),
            "if-none-match": lambda value: etag is None or value not in ("*", etag),
        }
        for name, value in conditions.items():
            if not holds[name](value):
                raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")

    def begin(self, upload):
        with self.lock:
            self.generation += 1
            identity = hashlib.sha256(str(self.generation).encode()).hexdigest()
            self.uploads[identity] = upload
        return identity

    def upload(self, identity, key):
        with self.lock:
            upload = self.uploads.get(identity)
        if upload is None or upload.key != key:
            raise Refused(404, "NoSuchUpload", "The requested upload was not found.")
        return upload

    def end(self, identity, key):
        upload = self.upload(identity, key)
        with self.lock:
            self.uploads.pop(identity, None)
        return upload

    def keys(self):
        with self.lock:
            return sorted(self.objects.items(), key=lambda item: item[0].encode())

    def unfinished(self):
        with self.lock:
            return sorted((upload.key, identity, upload.begun) for identity, upload in self.uploads.items())


CONDITIONS = ("x-goog-if-generation-match", "x-goog-if-generation-not-match", "if-match", "if-none-match")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body of an answer are two writes: the second would wait for an acknowledgement of the first.
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    # --- requests ---------------------------------------------------------------------------------------------------

    def serve(self):
        body = self.body()
        try:
            self.authorize()
            address = urlsplit(self.path)
            bucket, _, key = address.path.lstrip("/").partition("/")
            query = dict(parse_qsl(address.query, keep_blank_values=True))
            if unquote(bucket) != self.server.bucket.name:
                raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.")
            action = {"GET": self.get, "HEAD": self.get, "PUT": self.put, "POST": self.post, "DELETE": self.delete}[self.command]
            action(unquote(key), query, body)
        except Refused as refused:
            text = f"<Error><Code>{refused.code}</Code><Message>{escape(refused.message)}</Message></Error>"
            self.answer(refused.status, document(text), refused.headers)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def authorize(self):
        token = self.server.token
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            raise Refused(401, "AuthenticationRequired", "Authentication required.", {"WWW-Authenticate": "Bearer"})

    def conditions(self):
        return {name: self.headers[name] for name in CONDITIONS if name in self.headers}

    def metadata(self):
        # Other people's clients write the headers of S3, which are taken as well.
        found = {}
        for name, value in self.headers.items():
            for prefix in ("x-goog-meta-", "x-amz-meta-"):
                if name.lower().startswith(prefix):
                    found[name.lower()[len(prefix) :]] = value
        return found

    def attributes(self):
        storage_class = self.headers.get("x-goog-storage-class") or self.headers.get("x-amz-storage-class") or "STANDARD"
        return self.metadata(), self.headers.get("Content-Type") or "application/octet-stream", storage_class

    def check_sums(self, body):
        md5 = base64_text(hashlib.md5(body).digest())
        told = [("md5", self.headers.get("Content-MD5"))]
        for part in (self.headers.get("x-goog-hash") or "").split(","):
            name, _, value = part.strip().partition("=")
            told.append((name, value))
        for name, value in told:
            found = md5 if name == "md5" else base64_text(crc32c(body)) if name == "crc32c" else value
            if value and value != found:
                raise Refused(400, "BadDigest", f"The {name} you specified did not match what we received.")

    def get(self, key, query, body):
        if not key:
            if "uploads" in query:
                return self.list_uploads(query)
            return self.list(query)
        if "uploadId" in query:
            return self.list_parts(key, query)
        stored = self.server.bucket.find(key)
        headers = stored.headers()
        expected, unexpected = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        if expected and expected not in ("*", stored.etag):
            raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
        if unexpected and unexpected in ("*", stored.etag):
            return self.answer(304, b"", headers)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not asked or asked.groups() == ("", ""):
            return self.answer(200, stored.data, headers)
        size = len(stored.data)
        first, last = asked.groups()
        if first:
            start, end = int(first), min(int(last) if last else size - 1, size - 1)
        else:
            start, end = max(size - int(last), 0), size - 1
        if start > end:
            raise Refused(416, "InvalidRange", "The requested range cannot be satisfied.", {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        self.answer(206, stored.data[start : end + 1], headers)

    def put(self, key, query, body):
        bucket = self.server.bucket
        if not key:
            if "rights" in query:
                bucket.may_delete = query["rights"] == "all"
            return self.answer(200)
        if "uploadId" in query:
            upload = bucket.upload(query["uploadId"], key)
            self.check_sums(body)
            number = int(query["partNumber"])
            if not 1 <= number <= 10000:
                raise Refused(400, "InvalidArgument", "A part has a number from 1 to 10000.")
            upload.parts[number] = body
            upload.sent[number] = time.time()
            return self.answer(200, headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        source = self.headers.get("x-goog-copy-source") or self.headers.get("x-amz-copy-source")
        if source:
            return self.copy(key, source)
        self.check_sums(body)
        metadata, content_type, storage_class = self.attributes()
        stored = bucket.put(key, Stored(body, 0, metadata, content_type, storage_class), self.conditions())
        self.answer(200, headers=stored.headers())

    def copy(self, key, source):
        of_bucket, _, of_key = unquote(source).lstrip("/").partition("/")
        if of_bucket != self.server.bucket.name:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.")
        found = self.server.bucket.find(of_key)
        metadata, content_type, storage_class = found.metadata, found.content_type, found.storage_class
        directive = self.headers.get("x-goog-metadata-directive") or self.headers.get("x-amz-metadata-directive") or "COPY"
        if directive.upper() == "REPLACE":
            metadata, content_type, storage_class = self.attributes()
        made = Stored(found.data, 0, metadata, content_type, storage_class, is_composite=found.is_composite)
        made = self.server.bucket.put(key, made, self.conditions())
        text = f"<CopyObjectResult><LastModified>{moment(made.modified)}</LastModified><ETag>{escape(made.etag)}</ETag></CopyObjectResult>"
        self.answer(200, document(text), {"x-goog-generation": str(made.generation)})

    def post(self, key, query, body):
        bucket = self.server.bucket
        names = f"<Bucket>{escape(bucket.name)}</Bucket><Key>{escape(key)}</Key>"
        if "uploads" in query:
            identity = bucket.begin(Parts(key, *self.attributes()))
            text = f"<InitiateMultipartUploadResult>{names}<UploadId>{identity}</UploadId></InitiateMultipartUploadResult>"
            return self.answer(200, document(text))
        upload = bucket.upload(query.get("uploadId", ""), key)
        if any(name in self.headers for name in CONDITIONS):
            raise Refused(400, "InvalidArgument", "The end of an upload takes no conditions.")
        numbers = self.listed_parts(upload, body)
        data = b"".join(upload.parts[number] for number in numbers)
        bucket.end(query["uploadId"], key)
        stored = Stored(data, 0, upload.metadata, upload.content_type, upload.storage_class, is_composite=True)
        stored = bucket.put(key, stored, {})
        text = f"<CompleteMultipartUploadResult>{names}<ETag>{escape(stored.etag)}</ETag></CompleteMultipartUploadResult>"
        self.answer(200, document(text), {"x-goog-generation": str(stored.generation)})

    def listed_parts(self, upload, body):
        try:
            root = ElementTree.fromstring(body)
        except ElementTree.ParseError:
            raise Refused(400, "MalformedXML", "The XML you provided was not well-formed.") from None
        listed = []
        for part in root.iter():
            if part.tag.rpartition("}")[2] == "Part":
                said = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in part}
                number = int(said["PartNumber"])
                data = upload.parts.get(number)
                if data is None or said["ETag"].strip('"') != hashlib.md5(data).hexdigest():
                    raise Refused(400, "InvalidPart", f"The part {number} was not found, or its ETag differs.")
                listed.append(number)
        if not listed or listed != sorted(set(listed)):
            raise Refused(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        if any(len(upload.parts[number]) < 5 << 20 for number in listed[:-1]):
            raise Refused(400, "EntityTooSmall", "A part but the last has less than 5 MiB.")
        return listed

    def delete(self, key, query, body):
        if "uploadId" in query:
            self.server.bucket.end(query["uploadId"], key)
        else:
            self.server.bucket.delete(key, self.conditions())
        self.answer(204)

    # --- lists ------------------------------------------------------------------------------------------------------

    def list(self, query):
        """Both versions of S3's list, which Google's API has as well."""
        is_second = query.get("list-type") == "2"
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        token = query.get("continuation-token")
        after = base64.urlsafe_b64decode(token).decode() if token else query.get("start-after" if is_second else "marker", "")
        most = min(int(query.get("max-keys") or self.server.page_size), self.server.page_size)
        entries, folders, last = [], [], ""
        is_truncated = False
        for key, stored in self.server.bucket.keys():
            if not key.startswith(prefix) or key.encode() <= after.encode():
                continue
            folder = key[: key.index(delimiter, len(prefix)) + len(delimiter)] if delimiter and delimiter in key[len(prefix) :] else None
            # A folder that an earlier page has named is not named again.
            if folder is not None and (folder in folders[-1:] or after.startswith(folder)):
                continue
            if len(entries) + len(folders) == most:
                is_truncated = True
                break
            last = key
            if folder is None:
                entries.append((key, stored))
            else:
                folders.append(folder)
                # All of it is done with.
                last = folder + "\U0010ffff"
        shown = quote if query.get("encoding-type") == "url" else escape
        text = [f"<Name>{escape(self.server.bucket.name)}</Name><Prefix>{shown(prefix)}</Prefix>"]
        text.append(f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated><KeyCount>{len(entries) + len(folders)}</KeyCount>")
        if is_truncated and is_second:
            text.append(f"<NextContinuationToken>{base64.urlsafe_b64encode(last.encode()).decode()}</NextContinuationToken>")
        elif is_truncated:
            text.append(f"<NextMarker>{shown(last)}</NextMarker>")
        for key, stored in entries:
            text.append(
                f"<Contents><Key>{shown(key)}</Key><Generation>{stored.generation}</Generation>"
                f"<LastModified>{moment(stored.modified)}</LastModified>"
                f"<ETag>{escape(stored.etag)}</ETag><Size>{len(stored.data)}</Size><StorageClass>{stored.storage_class}</StorageClass></Contents>"
            )
        text.extend(f"<CommonPrefixes><Prefix>{shown(folder)}</Prefix></CommonPrefixes>" for folder in folders)
        self.answer(200, document(f"<ListBucketResult>{''.join(text)}</ListBucketResult>"))

    def list_uploads(self, query):
        prefix, after = query.get("prefix", ""), (query.get("key-marker", ""), query.get("upload-id-marker", ""))
        found = [one for one in self.server.bucket.unfinished() if one[0].startswith(prefix) and one[:2] > after]
        shown = quote if query.get("encoding-type") == "url" else escape
        page = found[: self.server.page_size]
        text = [f"<IsTruncated>{str(len(found) > len(page)).lower()}</IsTruncated>"]
        if query.get("encoding-type"):
            text.append(f"<EncodingType>{escape(query['encoding-type'])}</EncodingType>")
        if len(found) > len(page):
            text.append(f"<NextKeyMarker>{shown(page[-1][0])}</NextKeyMarker><NextUploadIdMarker>{page[-1][1]}</NextUploadIdMarker>")
        for key, identity, begun in page:
            text.append(f"<Upload><Key>{shown(key)}</Key><UploadId>{identity}</UploadId><Initiated>{moment(begun)}</Initiated></Upload>")
        self.answer(200, document(f"<ListMultipartUploadsResult>{''.join(text)}</ListMultipartUploadsResult>"))

    def list_parts(self, key, query):
        upload = self.server.bucket.upload(query["uploadId"], key)
        after = int(query.get("part-number-marker") or 0)
        found = sorted((number, sent) for number, sent in upload.sent.items() if number > after)
        page = found[: self.server.page_size]
        text = [f"<IsTruncated>{str(len(found) > len(page)).lower()}</IsTruncated>"]
        if page:
            text.append(f"<NextPartNumberMarker>{page[-1][0]}</NextPartNumberMarker>")
        text.extend(f"<Part><PartNumber>{number}</PartNumber><LastModified>{moment(sent)}</LastModified></Part>" for number, sent in page)
        self.answer(200, document(f"<ListPartsResult>{''.join(text)}</ListPartsResult>"))

    # --- answers ----------------------------------------------------------------------------------------------------

    def answer(self, status, body=b"", headers=None):
        headers = dict(headers or {})
        if body:
            headers.setdefault("Content-Type", "application/xml; charset=UTF-8")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)


def moment(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def document(text):
    return f"<?xml version='1.0' encoding='UTF-8'?>{text}".encode()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # A client that goes away in the middle is nothing that a test wants to read about.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bucket")
    parser.add_argument("--token", help="the only one that is accepted; without it nobody is asked")
    parser.add_argument("--page-size", type=int, default=1000)
    arguments = parser.parse_args()
    server = Server(("127.0.0.1", 0), Handler)
    server.bucket, server.token, server.page_size = Bucket(arguments.bucket), arguments.token, arguments.page_size
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Whoever started it holds the other end: it ends when that process does.
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()

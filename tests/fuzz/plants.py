#!/usr/bin/env python3
"""Bugs to plant: one changed place of one source each, which the named target must find.

    plants.py --names                  the plants
    plants.py --target NAME            its fuzz target
    plants.py --source NAME            the file that it changes
    plants.py --plant NAME --to FILE   a copy of that file with the bug in it

The text to change must stand in its source exactly once: a plant that no longer fits fails here, by name.
"""
import argparse
import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# name: (target, source, text, what stands there with the bug)
PLANTS = {
    "header-checksum": ("toc_header", "src/segment/header.c",
                        'if (h.checksum != sum)\n        return err_set(-EBADMSG, "checksum of the header',
                        'if (h.checksum == 0)\n        return err_set(-EBADMSG, "checksum of the header'),
    "header-shard": ("toc_header", "src/segment/header.c",
                     "h->shard >= h->shards || h->seq >= SEQ_END", "h->shard > h->shards || h->seq >= SEQ_END"),
    "pin-label": ("pin", "src/segment/pin.c", " || p.label[sizeof p.label - 1])", ")"),
    "pin-length": ("pin", "src/segment/pin.c", "        len != sizeof(struct pin_header) + 32 * (size_t)p.nkeys ||", ""),
    "head-host": ("head", "src/segment/header.c",
                  " || h->host[sizeof h->host - 1] != '\\0')", ")"),
    "page-length": ("page", "src/metrics/page.c", "    if (n > in->len - in->used)\n        return NULL;\n", ""),
    "page-bounds": ("page", "src/metrics/page.c", "if (s->bounds[i] <= s->bounds[i - 1])", "if (s->bounds[i] < s->bounds[i - 1])"),
    "head-range": ("head", "src/segment/header.c", "h->first_seq > h->next_seq ||", ""),
    "head-touches": ("head", "src/segment/header.c", "i < HEAD_TOUCHES_MAX ? le32_load", "i <= HEAD_TOUCHES_MAX ? le32_load"),
    "name-digit": ("names", "src/segment/names.c", "s[i] <= '9'", "s[i] <= ':'"),
    "frame-page": ("frames", "src/segment/reader.c",
                   "if (f->records == 0 || bytes > page_rest(position))", "if (f->records == 0)"),
    "frame-data-end": ("frames", "src/segment/reader.c",
                       "(uint64_t)b.offset * FORMAT_PAGE + block_extent(&b) > f->data_end",
                       "(uint64_t)b.offset * FORMAT_PAGE > f->data_end"),
    "frame-parts": ("frames", "src/segment/reader.c", "|| r[PARTS_AT(count)] != here)", ")"),
    "write-page": ("growing", "src/segment/writer.c", "at % FORMAT_PAGE == 0 || page_rest(at) < need", "page_rest(at) < need"),
    "write-undo": ("growing", "src/segment/writer.c", "b->w->number = b->first_number;", ";"),
    "read-padding": ("growing", "src/segment/reader.c", "    *skip = rest;\n", "    *skip = 0;\n"),
    "contents-length": ("contents", "src/engine/contents.c", "        len -= FORMAT_PAGE;\n", ""),
    "contents-seq": ("contents", "src/engine/contents.c", "|| h->seq != job->seq ||", "||"),
    "contents-head": ("contents", "src/engine/contents.c", "if (len != FORMAT_PAGE)", "if (len < 2048)"),
    "import-check": ("import", "src/admin/import.c", "if (!rc && format_check(&identity, hash) != b->check[i])",
                     "if (!rc && format_check(&identity, hash) == 0)"),
    "import-undo": ("import", "src/admin/import.c", "        import_undo(m);\n", ""),
    "sealed-tag": ("sealed", "src/segment/reader.c", "cipher_check(c->cipher, tag, sizeof tag) == 0", "true"),
    "sealed-wrap": ("sealed", "src/segment/crypt.c",
                    "    if (!rc)\n        rc = cipher_check(c, WRAP(copy, tag), CRYPT_TAG);\n", ""),
    "salt-length": ("root", "src/segment/root.c", "if (n == 32) {", "if (n >= 32) {"),
    "root-version": ("root", "src/segment/root.c", "if (format > ROOT_ENCRYPTED ||", "if (format > ROOT_ENCRYPTED + 1 ||"),
    "json-order": ("space_text", "src/key/space.c", "(JSON_SORT_KEYS | JSON_COMPACT)", "JSON_COMPACT"),
    "json-shards": ("space_text", "src/key/space.c", "n < 1 || n > CISTERN_MAX_SHARDS", "n < 1"),
    "space-heads": ("space_struct", "src/key/space.c", "(json_int_t)s->kv_heads", "(json_int_t)(uint16_t)s->kv_heads"),
    "space-utf8": ("space_struct", "src/key/space.c",
                   '    if (!j)\n        return err_set(CISTERN_ECONFIG, "space: %s is not UTF-8", field);\n', ""),
    "option-size": ("options", "src/engine/options.c", "if (*end || *out > UINT64_MAX >> shift)", "if (*end)"),
    "option-words": ("options", "src/engine/options.c", "    while (i < *argc)\n        argv[kept++] = argv[i++];\n", ""),
    "config-segment": ("options", "src/engine/config.c", "if (c->segment_bytes > 1ull << 40)",
                       "if (round_up(c->segment_bytes, c->io_bytes) > 1ull << 40)"),
    "cluster-twice": ("clusters", "src/engine/cluster_file.c", "for (i = 0; !rc && i < out->count; i++)", "for (i = 1; !rc && i < out->count; i++)"),
    "cluster-path": ("clusters", "src/engine/cluster.c", "if (used + n + 2 > size)", "if (used + n > size)"),
    "cluster-kernel": ("clusters", "src/engine/cluster.c", "o->mounted[0] ? o->mounted : there ?", "there ?"),
    "strict-word": ("options", "src/usrbio/strict.c", "strlen(name) == len && memcmp", "strlen(name) >= len && memcmp"),
    "cli-size": ("cli", "cli/text.c", "if (v > UINT64_MAX >> shift)\n        return false;", ""),
    "cli-token": ("cli", "cli/prompt.c", "            json_integer_value(v) > UINT32_MAX) {", "            0) {"),
    "cli-key": ("cli", "cli/prompt.c", "    if (len != 64)\n", "    if (len < 64)\n"),
    "cli-parts": ("cli", "cli/space_file.c", "json_array_size(list) == 0 || json_array_size(list) > CISTERN_MAX_PARTS",
                  "json_array_size(list) == 0"),
    "io-range": ("usrbio", "src/usrbio/abi.c", "len <= iov->size && at - base <= iov->size - len", "len <= iov->size"),
    "io-link": ("usrbio", "src/usrbio/iov.c", "        if (own->link != NULL)\n            unlink(own->link);\n", ""),
    "io-reap": ("usrbio", "src/usrbio/ior.c", "    while (n < max) {\n        struct slot *slot = list_pop(&ior->done);",
                "    while (n <= max) {\n        struct slot *slot = list_pop(&ior->done);"),
    "io-zombie": ("usrbio", "src/usrbio/iov.c", "busy = ior_touches(ior, base, size);", "busy = false;"),
}


def planted(name):
    _, source, text, bug = PLANTS[name]
    with open(os.path.join(TOP, source)) as f:
        code = f.read()
    if code.count(text) != 1:
        sys.exit("plants.py: %s: its text stands in %s %d times, not once: %r" % (name, source, code.count(text), text))
    return '#line 1 "%s"\n' % source + code.replace(text, bug)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--names", action="store_true")
    p.add_argument("--target")
    p.add_argument("--source")
    p.add_argument("--plant")
    p.add_argument("--to")
    a = p.parse_args()
    if a.names:
        print(" ".join(PLANTS))
    elif a.target or a.source:
        print(PLANTS[a.target or a.source][0 if a.target else 1])
    else:
        code = planted(a.plant)
        with open(a.to, "w") as f:
            f.write(code)


if __name__ == "__main__":
    main()

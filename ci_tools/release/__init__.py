"""A release as others get it: its bytes, where it is kept, who signed it.

    found = store.find(registry, "ml/releases", "release-…")   # or a commit, or a digest
    signing.verify(found, keys)                                # the bytes, before they are read
    found.release.images                                       # what they say

`canonical` is how content becomes bytes, `bundle` the bytes of one release,
`store` its place in a registry, `bucket` the one in S3, `attest` what a signature
states, `keys` whom to believe, `signing` both ways of it.
"""

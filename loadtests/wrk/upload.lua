-- Upload: bodies of LOAD_BYTES (1 MiB) on each connection, one after the other.
require("common")

wrk.method = "POST"
wrk.path = "/sink"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.body = string.rep("0123456789abcdef", math.ceil(number("LOAD_BYTES", 1048576) / 16))

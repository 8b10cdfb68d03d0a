-- Steady: one small request after the other on each connection.
require("common")

wrk.method = "GET"
wrk.path = "/nonce/steady"

-- What all scripts share: where to connect, and an end that fails if one answer was not good.
--
-- wrk takes SNI and Host from its URL. A private endpoint gives that name a private address by DNS; here, the function
-- below does.

local address = os.getenv("LOAD_ADDRESS") or "127.0.0.1:8443"

function wrk.resolve(_, _)
   local host, port = address:match("^(.*):(%d+)$")
   assert(host, "LOAD_ADDRESS is " .. address .. ", not ADDRESS:PORT")
   wrk.addrs = { assert(wrk.lookup(host, port)[1], "no such address: " .. address) }
end

-- An option that is a number above zero.
function number(name, fallback)
   local value = tonumber(os.getenv(name) or fallback)
   assert(value and value > 0, name .. " is not a number above zero")
   return value
end

-- Called once, after the run. Statuses from 400 count as errors.
function done(summary, latency, _)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format(
      "%d requests, %d failed (connect %d, read %d, write %d, status %d, timeout %d), p50 %.1f ms, p99 %.1f ms\n",
      summary.requests, failed, errors.connect, errors.read, errors.write, errors.status, errors.timeout,
      latency:percentile(50) / 1000, latency:percentile(99) / 1000))
   if failed > 0 or summary.requests == 0 then
      io.flush()
      os.exit(1)
   end
end

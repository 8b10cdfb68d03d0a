-- Mixed: small answers, answers of 64 KiB and 1 MiB, searches at the back end, and small uploads.
require("common")

local body = string.rep("0123456789abcdef", 256)
local kinds = {
   { 50, "GET", "/nonce/mixed" },
   { 20, "GET", "/dicom-web/studies?PatientID=P1&limit=10" },
   { 15, "GET", "/bytes/65536" },
   { 5, "GET", "/bytes/1048576" },
   { 10, "POST", "/sink", body },
}

-- One entry for each percent, in an order that mixes the kinds; the same in every run.
local requests = {}

function init(_)
   for _, kind in ipairs(kinds) do
      local text = wrk.format(kind[2], kind[3], nil, kind[4])
      for _ = 1, kind[1] do
         requests[#requests + 1] = text
      end
   end
   math.randomseed(1)
   for at = #requests, 2, -1 do
      local other = math.random(at)
      requests[at], requests[other] = requests[other], requests[at]
   end
end

local at = 0

function request()
   at = at % #requests + 1
   return requests[at]
end

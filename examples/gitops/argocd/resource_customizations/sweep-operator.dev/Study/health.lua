-- A Study that runs is Healthy: it was accepted, and does what Git asks for. Flux sees it the same way (Ready is True), and
-- a sync wave does not wait for hours. Where one shall wait for the sweep's end: "Progressing".
local running = "Healthy"

local conditions = {}
for _, condition in ipairs(obj.status ~= nil and obj.status.conditions or {}) do
  conditions[condition.type] = condition
end
local function is_true(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end
local ready = conditions.Ready

-- What the status says of an earlier spec is worth nothing.
if ready == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "Waiting for the operator to look at the Study"}
end
-- Refused, failed, or its names are taken: it goes on only after somebody acts.
if is_true("Stalled") then
  return {status = "Degraded", message = ready.reason .. ": " .. ready.message}
end
if is_true("Suspended") then
  return {status = "Suspended", message = ready.message}
end
-- Nothing new starts, and what runs ends first.
if ready.reason == "Suspending" or ready.status ~= "True" then
  return {status = "Progressing", message = ready.message}
end
return {status = is_true("Complete") and "Healthy" or running, message = ready.message}

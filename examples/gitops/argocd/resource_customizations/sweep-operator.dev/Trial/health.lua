-- Trials are the operator's, not Git's: what they say is shown in the tree, and does not count for the Application.
local status = obj.status or {}
for _, condition in ipairs(status.conditions or {}) do
  -- It cannot start before somebody acts, as where its image is missing.
  if condition.type == "Stalled" and condition.status == "True" then
    return {status = "Degraded", message = condition.message}
  end
end
local health = {Succeeded = "Healthy", Pruned = "Healthy", Stopped = "Healthy", Failed = "Degraded"}
return {status = health[status.phase] or "Progressing", message = status.message or ""}

-- A Study that has ended has nothing to suspend.
local ended = false
for _, condition in ipairs(obj.status ~= nil and obj.status.conditions or {}) do
  if (condition.type == "Complete" or condition.type == "Failed") and condition.status == "True" then
    ended = true
  end
end
local suspended = obj.spec.suspend == true
return {
  suspend = {disabled = ended or suspended, iconClass = "fa fa-fw fa-pause"},
  resume = {disabled = ended or not suspended, iconClass = "fa fa-fw fa-play"},
}

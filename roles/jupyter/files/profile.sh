# Managed by CampusHub
# Shells of users find their own programs first, then those of the user environment. Root's stay as they are.
if [ "$(id -u)" -ne 0 ]; then
  case ":$PATH:" in
    *:/opt/campushub/user/bin:*) ;;
    *) PATH="$HOME/.local/bin:/opt/campushub/user/bin:$PATH" ;;
  esac
  export PATH
fi

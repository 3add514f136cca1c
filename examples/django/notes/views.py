from django.shortcuts import redirect, render

from notes.models import Note


def index(request):
    if request.method == "POST":
        Note.objects.create(text=request.POST["text"][:200])
        return redirect("index")
    return render(request, "notes/index.html", {"notes": Note.objects.order_by("written")})
